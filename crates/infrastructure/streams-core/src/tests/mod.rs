mod histories;
mod world;
