//! Command lines of Kubernetes components, and what kube-controller-manager's says of pod CIDRs (reference A).

use super::text::{clip, length, prefixes};
use crate::cluster::objects::ManagerFlags;

/// What a container runs: `command` and `args` one after the other, variables as `$(NAME)` replaced.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// The words after the program; a shell's script is taken apart to find it there.
    /// Where the program is not named (the image's entrypoint), all words are its arguments.
    pub fn of(words: &[String], program: &str, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let words: Vec<String> = words.iter().map(|word| expand(word, environment)).collect();
        if let Some(after) = after(&words, program) {
            return Self { words: after };
        }
        for script in words.iter().filter(|word| word.contains(program)) {
            let Some(inner) = shlex::split(script) else { continue };
            if let Some(after) = after(&inner, program) {
                let ends = |word: &String| matches!(word.as_str(), "&&" | "||" | "|" | ";" | "&");
                let words: Vec<String> = after.into_iter().take_while(|word| !ends(word)).collect();
                return Self {
                    words: words.iter().map(|word| word.trim_end_matches(';').to_owned()).collect(),
                };
            }
        }
        Self { words }
    }

    /// Of words that are flags and their values.
    pub fn of_flags(words: Vec<String>) -> Self {
        Self { words }
    }

    /// All flags with their values, in order: `--flag=v`, `--flag v`, and `--flag` alone (no value) for those in
    /// `switches`. Underscores count as dashes, as in the components themselves.
    pub fn flags(&self, switches: &[&str]) -> Vec<(String, Option<String>)> {
        let mut found = Vec::new();
        let mut words = self.words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            if flag.is_empty() {
                break;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let name = name.replace('_', "-");
            let value = match value {
                None if !switches.contains(&name.as_str()) => {
                    words.next_if(|next| !next.starts_with("--")).map(ToOwned::to_owned)
                }
                value => value,
            };
            found.push((name, value));
        }
        found
    }
}

/// The words after the one that names the program, by its last path component.
fn after(words: &[String], program: &str) -> Option<Vec<String>> {
    let at = words.iter().position(|word| word.rsplit('/').next() == Some(program))?;
    words.get(at + 1..).map(<[String]>::to_vec)
}

/// Replaces `$(NAME)` where the variable is known, as kubelet does.
fn expand(word: &str, environment: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, tail)) = rest.split_once("$(") {
        out.push_str(before);
        let known = tail
            .split_once(')')
            .and_then(|(name, after)| Some((environment(name)?, after)));
        match known {
            Some((value, after)) => {
                out.push_str(&value);
                rest = after;
            }
            None => {
                out.push_str("$(");
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

/// kube-controller-manager's flags; a later one wins over an earlier one, but `--controllers` adds up.
pub fn manager(line: &CommandLine) -> ManagerFlags {
    let mut flags = ManagerFlags::default();
    let mut controllers: Option<Vec<String>> = None;
    for (name, value) in line.flags(&["allocate-node-cidrs"]) {
        set(&mut flags, &mut controllers, &name, value.as_deref());
    }
    flags.ipam_disabled = controllers.is_some_and(|list| !enabled(&list));
    flags
}

/// The same of a map, as kubeadm's `extraArgs`.
pub fn manager_of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> ManagerFlags {
    let mut flags = ManagerFlags::default();
    let mut controllers = None;
    for (name, value) in pairs {
        set(&mut flags, &mut controllers, name, Some(value));
    }
    flags.ipam_disabled = controllers.is_some_and(|list| !enabled(&list));
    flags
}

fn set(flags: &mut ManagerFlags, controllers: &mut Option<Vec<String>>, name: &str, value: Option<&str>) {
    let said = value.unwrap_or_default();
    let before = flags.odd.len();
    match name {
        "allocate-node-cidrs" => {
            // As Go's strconv.ParseBool reads it; the bare flag means true.
            flags.allocate_node_cidrs = match value {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(true),
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Some(false),
                Some(other) => {
                    flags.odd.push(clip(other, 64));
                    None
                }
            };
        }
        "cluster-cidr" => flags.cluster_cidr = prefixes(said, &mut flags.odd),
        "service-cluster-ip-range" => flags.service_cidr = prefixes(said, &mut flags.odd),
        // 0 is the default, and means that it is not set.
        "node-cidr-mask-size" => flags.mask = length(said, 128, &mut flags.odd).filter(|mask| *mask != 0),
        "node-cidr-mask-size-ipv4" => flags.mask_v4 = length(said, 32, &mut flags.odd).filter(|mask| *mask != 0),
        "node-cidr-mask-size-ipv6" => flags.mask_v6 = length(said, 128, &mut flags.odd).filter(|mask| *mask != 0),
        "cidr-allocator-type" => {
            flags.allocator_type = value.filter(|text| !text.is_empty()).map(|text| clip(text, 64))
        }
        "cloud-provider" => flags.cloud_provider = value.filter(|text| !text.is_empty()).map(|text| clip(text, 64)),
        "controllers" => {
            let list = said.split(',').map(str::trim).filter(|item| !item.is_empty());
            controllers.get_or_insert_default().extend(list.map(ToOwned::to_owned));
        }
        _ => {}
    }
    for odd in flags.odd.iter_mut().skip(before) {
        *odd = format!("--{name}={odd}");
    }
}

/// Whether this list of controllers leaves the node IPAM controller on: the first entry
/// that names it decides, else "*" does.
fn enabled(list: &[String]) -> bool {
    const NAMES: [&str; 2] = ["node-ipam-controller", "nodeipam"];
    for item in list {
        if NAMES.contains(&item.as_str()) {
            return true;
        }
        if item.strip_prefix('-').is_some_and(|name| NAMES.contains(&name)) {
            return false;
        }
    }
    list.iter().any(|item| item == "*")
}
