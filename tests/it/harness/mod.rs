//! The harness itself: what proves the service must be right first.

mod balancer;
mod load;
mod proxy;
