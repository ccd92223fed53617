//! What the engine makes of whole situations, as plain data: no cluster, no host, no clock.

mod missing;
mod silent;
mod world;
