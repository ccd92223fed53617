//! What the engine makes of whole situations, as plain data: no cluster, no host, no clock.

mod allocator;
mod delegates;
mod ends;
mod gone;
mod layers;
mod missing;
mod odd;
mod outlived;
mod pools;
mod processes;
mod ranges;
mod refused;
mod rivals;
mod sandboxes;
mod silent;
mod twins;
mod world;
mod wrong;
