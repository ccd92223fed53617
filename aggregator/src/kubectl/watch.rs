//! `findings --watch`.

use std::io::Write;

use futures::StreamExt;

use super::app::Failure;
use super::client::Client;
use super::outcome::Outcome;
use super::output::Output;
use super::render;

/// Prints every change until it is interrupted or the aggregator goes away.
pub(super) async fn watch<W: Write>(
    client: &Client,
    output: &mut Output<W>,
    node: &str,
    code: &str,
) -> Result<Outcome, Failure> {
    let mut events = client.watch(node, code).await?;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let event = tokio::select! {
            // No handler could be set: then the signal ends the program by itself.
            Ok(()) = &mut interrupt => return Ok(Outcome::Fine),
            event = events.next() => event,
        };
        match event {
            Some(event) => {
                let event = event?;
                output.event(&event, |look| render::event(&event, look))?;
            }
            None => return Err(Failure::WatchEnded),
        }
    }
}
