//! What the engine makes of whole situations, as plain data: no cluster, no host, no clock.

mod gone;
mod layers;
mod missing;
mod pools;
mod silent;
mod world;
mod wrong;
