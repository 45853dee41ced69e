mod edges;
mod histories;
mod world;
