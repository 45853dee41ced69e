//! CloudSkin's cells from outside: the program as a user calls it, on real processes.

mod bounce;
mod cc;
mod commands;
mod continuum;
mod faults;
mod files;
mod geds;
mod hostile;
mod independence;
mod iterations;
mod kill;
mod limits;
mod long;
mod mpi;
mod mpi_index;
mod nodes;
mod programs;
mod proof;
mod s3;
mod site;
mod spans;
mod streams;
mod streams_access;
