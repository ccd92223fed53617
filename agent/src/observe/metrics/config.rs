//! What the runtimes' configuration says of their metrics.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::endpoint::Served;
use crate::observe::cni::runtime::settings;
use crate::observe::root::HostRoot;
use crate::view::host::{Missing, Process};

/// containerd's file where its process names none.
const CONTAINERD: &str = "/etc/containerd/config.toml";

/// What serves metrics from containerd 2.3 or so on; `[metrics]` becomes it there where it is not set.
const SERVER: &str = "io.containerd.server.v1.metrics";

/// Imported files that are read at most; real ones have one or two.
const IMPORTS: usize = 32;

const CRIO: &str = "/etc/crio/crio.conf";
const CRIO_DROP_INS: &str = "/etc/crio/crio.conf.d";

/// Bytes of a file that are read at most; real ones have a few KiB.
const FILE: u64 = 1 << 20;

/// Entries of a directory of drop-ins.
const DROP_INS: usize = 256;

/// CRI-O's `metrics_port` by default.
const CRIO_PORT: u16 = 9090;

/// containerd's.
pub(super) fn containerd(root: &HostRoot, process: &Process) -> Result<Served, Missing> {
    let path = told(process, "config")
        .filter(|path| !path.is_empty())
        .unwrap_or(CONTAINERD);
    let path = Path::new(path);
    let Some(main) = read(root, path)? else {
        let why = "containerd has no configuration file that names an address for its metrics";
        return Err(Missing::Absent(why.to_owned()));
    };
    let mut address = Addresses::default();
    address.take(&main);
    let from = path.parent().unwrap_or(Path::new("/"));
    let patterns = main.get("imports").and_then(Value::as_array);
    let files = patterns
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .flat_map(|pattern| settings::matching(root, from, pattern));
    for file in files.take(IMPORTS) {
        if let Some(table) = read(root, &file)? {
            address.take(&table);
        }
    }
    let Some(text) = address.server.or(address.top) else {
        let why = "containerd's configuration names no address for its metrics";
        return Err(Missing::Absent(why.to_owned()));
    };
    let rubbish = || Missing::Absent(format!("containerd's metrics have no address and port: {text:?}"));
    Served::of(&text, "/v1/metrics").ok_or_else(rubbish)
}

/// Where containerd's file may name it; what is imported goes before what imports it, and what is empty says nothing.
#[derive(Debug, Default)]
struct Addresses {
    top: Option<String>,
    server: Option<String>,
}

impl Addresses {
    fn take(&mut self, file: &Table) {
        let address = |table: &Value| settings::text(table.as_table()?, "address");
        let top = file.get("metrics").and_then(address);
        let plugins = file.get("plugins").and_then(Value::as_table);
        let server = plugins.and_then(|plugins| plugins.get(SERVER)).and_then(address);
        self.top = top.or(self.top.take());
        self.server = server.or(self.server.take());
    }
}

/// CRI-O's: its file, drop-ins, and flags before all of them.
pub(super) fn crio(root: &HostRoot, process: &Process) -> Result<Served, Missing> {
    let main = told(process, "config").filter(|path| !path.is_empty()).unwrap_or(CRIO);
    let drop_ins = told(process, "config-dir")
        .filter(|path| !path.is_empty())
        .unwrap_or(CRIO_DROP_INS);
    let listed = root
        .list(Path::new(drop_ins), DROP_INS)
        .ok()
        .flatten()
        .unwrap_or_default();
    let mut files = vec![PathBuf::from(main)];
    files.extend(listed.iter().map(|name| Path::new(drop_ins).join(name)));
    let mut says = Crio::default();
    for path in files {
        if let Some(table) = read(root, &path)? {
            says.take(&table);
        }
    }
    let on = |value: &str| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
    let enabled = told(process, "enable-metrics").map(on).or(says.enabled);
    if enabled != Some(true) {
        return Err(Missing::Absent("CRI-O's metrics are not enabled".to_owned()));
    }
    if told(process, "metrics-cert").is_some_and(|path| !path.is_empty()) || says.secured {
        let why = "CRI-O serves its metrics by HTTPS only, which is not asked";
        return Err(Missing::Absent(why.to_owned()));
    }
    let port = told(process, "metrics-port").and_then(|port| port.parse().ok());
    Ok(Served {
        host: told(process, "metrics-host")
            .map(str::to_owned)
            .or(says.host)
            .unwrap_or_default(),
        port: port.or(says.port).unwrap_or(CRIO_PORT),
        path: "/metrics",
        named: true,
    })
}

#[derive(Debug, Default)]
struct Crio {
    enabled: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
    secured: bool,
}

impl Crio {
    fn take(&mut self, file: &Table) {
        let metrics = file
            .get("crio")
            .and_then(|crio| crio.as_table()?.get("metrics")?.as_table());
        let Some(metrics) = metrics else { return };
        if let Some(enabled) = metrics.get("enable_metrics").and_then(Value::as_bool) {
            self.enabled = Some(enabled);
        }
        if let Some(host) = settings::text(metrics, "metrics_host") {
            self.host = Some(host);
        }
        if let Some(port) = metrics.get("metrics_port").and_then(Value::as_integer) {
            self.port = u16::try_from(port).ok();
        }
        if let Some(certificate) = metrics.get("metrics_cert").and_then(Value::as_str) {
            self.secured = !certificate.is_empty();
        }
    }
}

fn told<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    process.settings.get(name).map(|setting| setting.value.trim())
}

/// A file's content; `None`: there is none. One that makes no sense is for those to say who need it: no rule rests on
/// these metrics, and a runtime that runs has read another one.
fn read(root: &HostRoot, path: &Path) -> Result<Option<Table>, Missing> {
    let said = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    match root.read(path, FILE) {
        Ok((bytes, _)) => {
            let parsed = String::from_utf8_lossy(&bytes).parse::<Table>();
            parsed
                .map(Some)
                .map_err(|_| Missing::Absent(said(&"it is no configuration that this agent understands")))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Missing::Unreadable(said(&error))),
    }
}
