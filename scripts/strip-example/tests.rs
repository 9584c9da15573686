//! The tests of the domain, a file a resource.
