//! What a program was told, as it is put together: by flags, by files, by defaults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flags::{self, Flag};
use crate::view::host::{Program, Setting};

/// A value beyond this is not kept. The longest that means something, a list of controllers, is under 2 KiB.
const VALUE_LIMIT: usize = 4096;

/// Where a flag of the command line stands.
pub(super) const COMMAND_LINE: &str = "command line";

/// Settings of one program, and what of them could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub settings: BTreeMap<String, Setting>,
    problems: Vec<String>,
}

impl Told {
    /// Sets it, in the place of what it was.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>, source: &str) {
        let value = value.into();
        if value.len() > VALUE_LIMIT {
            self.problem(format!(
                "{source}: {name} is {} bytes long, more than the {VALUE_LIMIT} that are kept",
                value.len()
            ));
            self.settings.remove(name);
            return;
        }
        let source = source.to_owned();
        self.settings.insert(name.to_owned(), Setting { value, source });
    }

    /// Sets it where nobody else did.
    pub(super) fn set_default(&mut self, name: &str, value: impl Into<String>, source: &str) {
        if !self.settings.contains_key(name) {
            self.set(name, value, source);
        }
    }

    /// Sets all of them; a later one goes before an earlier one.
    pub(super) fn flags(&mut self, flags: &[Flag], source: &str) {
        for flag in flags.iter().filter(|flag| !flags::carries(flag.name)) {
            self.set(flag.name, flag.value.as_str(), source);
        }
    }

    /// Sets what the words after a program's name say.
    pub(super) fn words(&mut self, program: Program, words: &[String], source: &str) {
        self.flags(&flags::parse(program, words), source);
    }

    /// Goes before all that `below` says; what could not be read of either stands.
    pub(super) fn over(&mut self, below: Self) {
        for (name, setting) in below.settings {
            self.settings.entry(name).or_insert(setting);
        }
        for why in below.problems {
            self.problem(why);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str())
    }

    /// Whether a switch is set and on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(flags::on)
    }

    /// Something could not be read.
    pub(super) fn problem(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.problems.contains(&why) {
            self.problems.push(why);
        }
    }

    /// Everything that could not be read, as one text.
    pub(super) fn problems(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }
}

/// A scalar or a list of scalars as a flag would be written; `None` for anything else, and for null.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => Some(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

/// The first document of a YAML or JSON text; null where there is none.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    // No document has more events, nodes or anchors than bytes, but for the few that frame even an empty one: the
    // file's own size is the limit.
    let size = text.len().max(16);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: size, max_nodes: size, max_total_scalar_bytes: size, max_documents: size },
        with_snippet: false,
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_later_word_goes_before_an_earlier_one_and_a_default_before_none() {
        let mut told = Told::default();
        let words = [
            "--max-pods=1".to_owned(),
            "--max-pods=2".to_owned(),
            "--token=x".to_owned(),
        ];
        told.words(Program::Kubelet, &words, COMMAND_LINE);
        told.set_default("max-pods", "110", "default");
        told.set_default("v", "2", "default");
        assert_eq!(
            (told.get("max-pods"), told.get("v"), told.get("token")),
            (Some("2"), Some("2"), None)
        );
        assert_eq!(told.problems(), None);
    }

    #[test]
    fn a_value_without_end_is_a_problem_and_not_a_setting() {
        let mut told = Told::default();
        told.set("cluster-cidr", "1".repeat(VALUE_LIMIT + 1), "command line");
        assert_eq!(told.get("cluster-cidr"), None);
        assert!(told.problems().unwrap().contains("cluster-cidr is 4097 bytes long"));
    }

    #[test]
    fn yaml_and_json_are_read_and_bombs_are_refused() {
        assert_eq!(yaml("a: 1\n---\nb: 2\n"), Ok(serde_json::json!({"a": 1})));
        assert_eq!(yaml("{\"a\": [1]}"), Ok(serde_json::json!({"a": [1]})));
        assert_eq!(yaml(""), Ok(Value::Null));
        assert!(yaml("a: [1").is_err());
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n";
        assert!(yaml(bomb).is_err());
    }

    #[test]
    fn lists_become_what_a_flag_would_say() {
        assert_eq!(
            scalar(&serde_json::json!(["10.1.0.0/16", "fd00::/56"])),
            Some("10.1.0.0/16,fd00::/56".into())
        );
        assert_eq!(scalar(&serde_json::json!(true)), Some("true".into()));
        assert_eq!(scalar(&serde_json::json!([{"a": 1}])), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ \\[\\]{}a-z:&*!|>'\"#\n-]{0,80}") {
            let _ = yaml(&text).as_ref().map(scalar);
        }
    }
}
