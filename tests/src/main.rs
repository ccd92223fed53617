//! `cidrift-lab`: the lab's command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cidrift_lab::bench::{self, Figure};
use cidrift_lab::binaries;
use cidrift_lab::breaks::Break;
use cidrift_lab::control::{self, Request};
use cidrift_lab::demo::{self, Options};
use cidrift_lab::image;
use cidrift_lab::kubernetes::{Cni, Containerd, Scenario, machine, optional, scenario, tools, up};
use cidrift_lab::topology::{Dataplane, Plan};
use cidrift_lab::{process, state, userns};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

/// Hosts as network namespaces, with everything that cidrift looks at, and
/// ways to break them. The machine's own network is never touched.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build hosts, run an agent in each and an aggregator, break one thing after another, show what is found.
    Demo {
        /// How pod traffic gets from host to host: vxlan or host-gw.
        #[arg(long, default_value = "vxlan")]
        dataplane: Dataplane,
        /// Keep it running for `kubectl cidrift`, `break` and `mend` instead of breaking it.
        #[arg(long)]
        hold: bool,
        /// How many hosts.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=20))]
        hosts: u8,
        /// Give pods IPv6 addresses too.
        #[arg(long)]
        dual_stack: bool,
        /// Only this break; may be given several times.
        #[arg(long, value_parser = which, conflicts_with = "hold")]
        only: Vec<Break>,
    },
    /// List the breaks, and which are in force.
    Breaks,
    /// Break the lab that `demo --hold` keeps running.
    Break {
        /// One of `cidrift-lab breaks`.
        #[arg(value_parser = which)]
        name: Break,
    },
    /// Take a break back.
    Mend {
        /// One of `cidrift-lab breaks`.
        #[arg(value_parser = which)]
        name: Break,
    },
    /// End the lab that `demo --hold` keeps running.
    Down,
    /// Measure what the programs cost beside what the kernel alone costs. Build with --release.
    Bench {
        /// What to measure: dump, latency, rss, footprint, scale. All, if none is named.
        what: Vec<Bench>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Write the images of agent and aggregator as archives for `ctr -n k8s.io images import`. Build with --release.
    Image {
        /// The directory for agent.tar and aggregator.tar.
        #[arg(long)]
        output: PathBuf,
    },
    /// A real Kubernetes with nodes whose pods really run. Needs root.
    Kubernetes {
        #[command(subcommand)]
        what: Kubernetes,
    },
    /// Make a node's machine: its outer process.
    #[command(hide = true)]
    Machine { root: PathBuf },
    /// The first process of a machine.
    #[command(hide = true)]
    MachineInit { root: PathBuf },
    /// Measure one part of `bench scale` in this process and print its figures as JSON.
    #[command(hide = true)]
    MeasureScale { part: bench::scale::Part },
    /// Run a program that dies with its parent: how the lab starts programs.
    #[command(hide = true)]
    Exec {
        #[arg(long)]
        parent: i32,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
enum Kubernetes {
    /// Start a cluster, print its KUBECONFIG, keep it running in the background.
    Up(Wanted),
    /// End the clusters that `up` started.
    Down {
        /// Only this one, by its name in `status`.
        id: Option<String>,
    },
    /// Start a cluster, install cidrift into it as real pods, break one thing after another, show what is found.
    Demo {
        /// Keep it running for people instead of breaking it.
        #[arg(long)]
        hold: bool,
    },
    /// List the clusters.
    Status,
    /// Build what clusters run, ahead of the first one.
    Build,
    /// Start a cluster and hold it: what `up` runs in the background.
    #[command(hide = true)]
    Hold(Wanted),
}

/// What a cluster is to be like.
#[derive(Debug, Args)]
struct Wanted {
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=40))]
    nodes: u8,
    /// How pods get addresses: none, template, bridge, flannel-vxlan, flannel-host-gw.
    #[arg(long, default_value = "bridge")]
    cni: Cni,
    /// --cluster-cidr of kube-controller-manager, with commas for several.
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Give pods and services IPv6 addresses too.
    #[arg(long)]
    dual_stack: bool,
    /// Run containerd 2.4.2 instead of Debian's 1.6.
    #[arg(long)]
    containerd2: bool,
}

impl Wanted {
    fn scenario(self) -> Scenario {
        let base = if self.dual_stack {
            Scenario::dual_stack()
        } else {
            Scenario::default()
        };
        Scenario {
            nodes: self.nodes,
            cni: self.cni,
            cluster_cidr: if self.cluster_cidr.is_empty() {
                base.cluster_cidr
            } else {
                self.cluster_cidr
            },
            containerd: if self.containerd2 {
                Containerd::V2
            } else {
                Containerd::Debian
            },
            ..base
        }
    }

    /// As they were given, for the process that holds the cluster.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--nodes={}", self.nodes), format!("--cni={}", self.cni)];
        if !self.cluster_cidr.is_empty() {
            arguments.push(format!("--cluster-cidr={}", scenario::list(&self.cluster_cidr)));
        }
        let switches = [(self.dual_stack, "--dual-stack"), (self.containerd2, "--containerd2")];
        arguments.extend(
            switches
                .iter()
                .filter(|(on, _)| *on)
                .map(|&(_, switch)| switch.to_owned()),
        );
        arguments
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Full dump and resolve at 5,000 and 50,000 routes, beside a dump that only receives.
    Dump,
    /// 1,000 route changes: until a subscriber sees the finding, beside the kernel's own message.
    Latency,
    /// The agent's memory at 5,000 routes.
    Rss,
    /// A real agent that looks at a real runtime with a full node's pods, while nothing happens.
    Footprint,
    /// The aggregator with 15,000 Nodes and 450,000 Pods, and with 1,000 reporting hosts; what an operator's plan and fix ask
    /// there.
    Scale,
}

fn which(name: &str) -> Result<Break, String> {
    Break::named(name).ok_or_else(|| {
        let names: Vec<&str> = Break::ALL.iter().map(|which| which.name()).collect();
        format!("these are: {}", names.join(", "))
    })
}

/// It could not be done at all; 1 is for a lab that found something wrong.
const COULD_NOT: u8 = 2;

fn main() -> ExitCode {
    let uid = nix::unistd::getuid().as_raw();
    match Cli::parse().command {
        Command::Demo {
            dataplane,
            hold,
            hosts,
            dual_stack,
            only,
        } => {
            let plan = Plan {
                hosts,
                dataplane,
                dual_stack,
            };
            able(|| demo::run(&Options { plan, hold, only, uid }))
        }
        Command::Bench { what, json } => able(|| bench(&what, json)),
        Command::MeasureScale { part } => measure_scale(part),
        Command::Image { output } => match images(&output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::from(COULD_NOT)
            }
        },
        Command::Breaks => breaks(uid),
        Command::Break { name } => ask(uid, &Request::Break(name.name().to_owned())),
        Command::Mend { name } => ask(uid, &Request::Mend(name.name().to_owned())),
        Command::Down => ask(uid, &Request::Down),
        Command::Kubernetes { what } => match kubernetes(what) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::from(COULD_NOT)
            }
        },
        Command::Machine { root } => ended("machine", own_path().and_then(|lab| machine::outer(&root, &lab))),
        Command::MachineInit { root } => ended("machine-init", machine::init(&root)),
        Command::Exec {
            parent,
            program,
            arguments,
        } => {
            let error = process::exec(parent, &program, &arguments);
            eprintln!("{}: {error}", program.display());
            ExitCode::from(COULD_NOT)
        }
    }
}

/// Runs `work` with the right to make namespaces.
fn able(work: impl FnOnce() -> anyhow::Result<bool>) -> ExitCode {
    if let Err(text) = userns::become_able() {
        eprintln!("{text}");
        return ExitCode::from(COULD_NOT);
    }
    match work() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(COULD_NOT)
        }
    }
}

fn own_path() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

fn ended(what: &str, result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{what}: {error}");
            ExitCode::from(COULD_NOT)
        }
    }
}

/// `false`: a demo in which something was not found.
fn kubernetes(what: Kubernetes) -> anyhow::Result<bool> {
    match what {
        Kubernetes::Demo { hold } => return kubernetes_demo(hold),
        Kubernetes::Up(wanted) => up::up(&own_path()?, &wanted.arguments())?,
        Kubernetes::Hold(wanted) => up::hold(wanted.scenario())?,
        Kubernetes::Down { id } => print(up::down(id.as_deref())?, "no cluster runs"),
        Kubernetes::Build => {
            for module in [tools::KUBERNETES, optional::KUBECTL] {
                tools::build(&module, &|text| eprintln!("{text}"))?;
                println!("{} is built", module.name);
            }
        }
        Kubernetes::Status => print(up::status()?, "no cluster runs"),
    }
    Ok(true)
}

fn kubernetes_demo(hold: bool) -> anyhow::Result<bool> {
    // Checked here, for a sentence instead of a refused system call.
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("a real Kubernetes needs root: run this as root");
    }
    cidrift_lab::kubernetes::demo::run(hold)
}

fn images(output: &Path) -> anyhow::Result<()> {
    let programs = binaries::find(|text| eprintln!("{text}"))?;
    for (path, size) in image::write(&programs, image::CURRENT, output)? {
        println!("{} ({:.1} MiB)", path.display(), size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

fn print(lines: Vec<String>, otherwise: &str) {
    if lines.is_empty() {
        println!("{otherwise}");
    }
    for line in lines {
        println!("{line}");
    }
}

fn bench(what: &[Bench], json: bool) -> anyhow::Result<bool> {
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; the figures mean little. Use `cargo run --release`.");
    }
    let chosen = |bench| what.is_empty() || what.contains(&bench);
    let mut figures: Vec<Figure> = Vec::new();
    if chosen(Bench::Dump) {
        figures.extend(bench::dump::run(5_000)?);
        figures.extend(bench::dump::run(50_000)?);
    }
    let programs = || binaries::find(|text| eprintln!("{text}"));
    if chosen(Bench::Latency) {
        let directory = tempfile::tempdir()?;
        figures.extend(bench::latency::run(programs()?, directory.path(), 1_000)?);
    }
    if chosen(Bench::Rss) {
        let directory = tempfile::tempdir()?;
        figures.extend(bench::rss::run(programs()?, directory.path(), 5_000)?);
    }
    if chosen(Bench::Footprint) {
        let directory = tempfile::tempdir()?;
        figures.extend(bench::footprint::run(directory.path())?);
    }
    if chosen(Bench::Scale) {
        figures.extend(bench::scale::run()?);
        let directory = tempfile::tempdir()?;
        figures.extend(bench::served::run(&programs()?.aggregator, directory.path())?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        println!("{}", bench::table(&figures));
    }
    let missed: Vec<&Figure> = figures.iter().filter(|figure| figure.met == Some(false)).collect();
    for figure in &missed {
        let aim = figure.aim.as_deref().unwrap_or_default();
        eprintln!(
            "MISSED: {}: {:.2} {}, aim {aim}",
            figure.what, figure.value, figure.unit
        );
    }
    Ok(missed.is_empty())
}

fn measure_scale(part: bench::scale::Part) -> ExitCode {
    let measured = bench::scale::measure(part).and_then(|rows| Ok(serde_json::to_string(&rows)?));
    match measured {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(COULD_NOT)
        }
    }
}

fn breaks(uid: u32) -> ExitCode {
    let broken = control::ask(&state::socket(&state::path(uid)), &Request::Breaks)
        .map(|answer| answer.broken)
        .unwrap_or_default();
    for which in Break::ALL {
        let state = if broken.iter().any(|name| name == which.name()) {
            "  [in force]"
        } else {
            ""
        };
        println!("{:<20} {}{state}", which.name(), which.description());
    }
    ExitCode::SUCCESS
}

fn ask(uid: u32, request: &Request) -> ExitCode {
    match control::ask(&state::socket(&state::path(uid)), request) {
        Ok(answer) if answer.ok => {
            println!("{}", answer.text);
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            eprintln!("{}", answer.text);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(COULD_NOT)
        }
    }
}
