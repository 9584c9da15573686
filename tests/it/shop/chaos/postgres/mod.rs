//! Row 4 as far as it takes orders: cut off at COMMIT, and in conflict. The rest is in `chaos::postgres`.

mod commit;
mod conflicts;
