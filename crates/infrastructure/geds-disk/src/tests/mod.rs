mod support;
mod world;

mod crashes;
mod faults;
mod objects;
mod rot;
