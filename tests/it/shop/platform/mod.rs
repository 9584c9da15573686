//! What the platform does, shown on the example: as `platform`, whose files have the same names.

mod bad_input;
mod cache;
mod one_id;
mod rotation;
