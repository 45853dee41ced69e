mod edges;
mod histories;
mod simulations;
mod world;
