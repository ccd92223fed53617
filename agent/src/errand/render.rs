//! `render`: containerd writes its CNI configuration from `conf_template`, as it does when a kubelet starts.
//!
//! The kubelet's call is `UpdateRuntimeConfig` with the node's pod CIDRs. containerd answers it with success whatever
//! it does, and renders only while no CNI configuration loads (reference D); that a file was removed it notices by a
//! watch, some time after. So the call is made again and again until the file is there.

mod configuration;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::configuration::Configuration;
use super::args::Render;
use super::directory::Directory;
use super::error::Error;
use crate::observe::cri::connection::{CriError, answer, connect};
use crate::observe::root::HostRoot;

/// The message and the client.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/errand/runtime.v1.rs"));
}

use v1::runtime_service_client::RuntimeServiceClient;

/// Between two calls. containerd's watch tells it of a removed file within milliseconds.
const PAUSE: Duration = Duration::from_millis(500);

/// Has it rendered, unless it is there and names the CIDRs already.
pub(super) async fn render(args: &Render) -> Result<String, Error> {
    let deadline = Instant::now() + args.timeout;
    let root = HostRoot::new(&args.host_root);
    let path = args.path.display();
    // Of a directory that is not mounted, no file ever appears.
    let (directory, _) = Directory::of(&root, &args.path)?;
    let wanted = listed(args);
    if judged(args, &directory)? {
        return Ok(format!("{path} is there and names {wanted} already"));
    }
    loop {
        let called = call(args, &root, deadline).await;
        if let Err(source @ (CriError::NoCri(_) | CriError::Foreign { .. })) = called {
            // No later call would do better.
            let what = format!("{} cannot be told {wanted}", args.endpoint.display());
            return Err(Error::Runtime { what, source });
        }
        if judged(args, &directory)? {
            return Ok(format!("{path} was rendered for {wanted}"));
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(late(args, &directory, called));
        }
        sleep(PAUSE).await;
    }
}

async fn call(args: &Render, root: &HostRoot, deadline: Instant) -> Result<(), CriError> {
    let socket = root.resolve(&args.endpoint).map_err(CriError::Open)?;
    let channel = connect(&socket, deadline).await?;
    let cidrs: Vec<String> = args.pod_cidr.iter().map(ToString::to_string).collect();
    let network = v1::NetworkConfig {
        pod_cidr: cidrs.join(","),
    };
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(network),
        }),
    };
    let mut client = RuntimeServiceClient::new(channel);
    let asked = client.update_runtime_config(request);
    answer("UpdateRuntimeConfig", deadline, asked).await.map(drop)
}

/// True when the configuration is there and names every CIDR.
///
/// # Errors
///
/// It is there and does not: containerd has loaded it, or will, and renders nothing over it.
fn judged(args: &Render, directory: &Directory) -> Result<bool, Error> {
    let name = args.path.file_name().unwrap_or_default();
    let named = match configuration::read(directory, name)? {
        Configuration::Missing | Configuration::Unfinished => return Ok(false),
        Configuration::Names(named) => named,
    };
    let missing: Vec<String> = args
        .pod_cidr
        .iter()
        .filter(|cidr| !named.contains(cidr))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let named = if named.is_empty() {
        "no CIDR".to_owned()
    } else {
        named.join(", ")
    };
    Err(Error::Refused(format!(
        "{} is there and names {named}, not {}: it is never rendered over; remove it first",
        args.path.display(),
        missing.join(", ")
    )))
}

/// Why nothing was rendered in time, as far as it shows.
fn late(args: &Render, directory: &Directory, called: Result<(), CriError>) -> Error {
    let path = args.path.display();
    let waited = format!("{path} was not rendered within {} s", args.timeout.as_secs_f32());
    let why = match called {
        Err(error) => format!("{}: {error}", args.endpoint.display()),
        Ok(()) => match configuration::others(directory) {
            Ok(others) if !others.is_empty() => format!(
                "containerd renders only while no CNI configuration loads, and there is {}",
                others.join(", ")
            ),
            Ok(_) => "the runtime took every call and wrote nothing: has it a conf_template, and this directory as \
                      its conf_dir?"
                .to_owned(),
            Err(error) => error.to_string(),
        },
    };
    Error::TimedOut(format!("{waited}: {why}"))
}

fn listed(args: &Render) -> String {
    let all: Vec<String> = args.pod_cidr.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests;
