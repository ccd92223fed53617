//! What a CNI configuration names, whatever its plugins are: a template may be of any.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use ipnet::IpNet;
use serde_json::Value;

use crate::errand::directory::Directory;
use crate::errand::error::Error;

/// What libcni loads, by the ends of names.
const LOADED: [&str; 3] = ["conf", "conflist", "json"];

/// What is in a configuration's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Configuration {
    /// Nothing.
    Missing,
    /// No JSON: somebody is writing it, or it does not load either.
    Unfinished,
    /// A configuration, and the CIDRs in it but for default routes.
    Names(BTreeSet<IpNet>),
}

/// Reads it.
pub(super) fn read(directory: &Directory, name: &OsStr) -> Result<Configuration, Error> {
    let Some(found) = directory.read(name)? else {
        return Ok(Configuration::Missing);
    };
    let Ok(value) = serde_json::from_slice(&found.content) else {
        return Ok(Configuration::Unfinished);
    };
    let mut named = BTreeSet::new();
    collect(&value, &mut named);
    Ok(Configuration::Names(named))
}

/// serde_json bounds how deep a value nests.
fn collect(value: &Value, into: &mut BTreeSet<IpNet>) {
    match value {
        Value::String(text) => {
            let net = text.parse::<IpNet>().ok();
            into.extend(net.filter(|net| net.prefix_len() > 0));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The names of all configurations in the directory, in order.
pub(super) fn others(directory: &Directory) -> Result<Vec<String>, Error> {
    let names = directory.names()?.into_iter();
    let loaded = names.filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| LOADED.contains(&end)));
    Ok(loaded.collect())
}
