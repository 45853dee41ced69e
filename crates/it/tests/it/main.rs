//! CloudSkin's cells from outside: the program as a user calls it, on real processes.

mod bounce;
mod cc;
mod commands;
mod faults;
mod files;
mod hostile;
mod independence;
mod kill;
mod mpi;
mod mpi_index;
mod programs;
mod proof;
mod site;
