//! Every program here is run as it is, then instrumented without a stop, then with stops, each stop
//! moving to a fresh instance. All runs have to make the same calls and leave the same memory.

mod cases;
mod harness;
mod hostile;
mod random;
mod refusals;
