//! Faults and load, in process: a TCP proxy that misbehaves, a balancer that checks health, and a client that
//! counts every answer.

pub mod balancer;
pub mod exchange;
pub mod load;
pub mod proxy;
mod pump;
pub mod report;

pub use self::{
    balancer::{Backend, Balancer},
    exchange::{get, post},
    load::{Load, Target, Until},
    proxy::{Mode, Proxy},
    report::{Failure, Outcome, Report},
};
