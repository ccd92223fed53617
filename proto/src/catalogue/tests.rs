use std::collections::BTreeSet;

use super::*;

#[test]
fn entries_stand_in_the_order_of_their_codes() {
    for (at, entry) in CATALOGUE.iter().enumerate() {
        assert_eq!(entry.code as usize, at, "{} is out of order", entry.code);
        assert_eq!(entry.code.entry().name, entry.name);
    }
    assert!(CATALOGUE.windows(2).all(|pair| pair[0].code < pair[1].code));
}

#[test]
fn codes_and_names_are_unique_and_read_back() {
    let mut seen = BTreeSet::new();
    for entry in CATALOGUE {
        assert!(seen.insert(entry.code.as_str()), "{} twice", entry.code);
        assert!(seen.insert(entry.name), "{} twice", entry.name);
        assert_eq!(entry.code.as_str().parse(), Ok(entry.code));
        assert_eq!(entry.code.as_str().to_lowercase().parse(), Ok(entry.code));
        assert_eq!(entry.name.parse(), Ok(entry.code));
        assert!(
            entry.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
            "{}",
            entry.name
        );
    }
}

#[test]
fn a_code_of_another_version_is_an_error_and_not_a_panic() {
    assert_eq!(
        "PATH99".parse::<Code>(),
        Err(Malformed::UnknownCode("PATH99".to_owned()))
    );
}

#[test]
fn every_page_is_complete() {
    for entry in CATALOGUE {
        let code = entry.code;
        for text in [entry.title, entry.meaning, entry.silence] {
            assert!(text.ends_with('.'), "{code}: {text:?} is no sentence");
        }
        assert!(entry.title.len() <= 110, "{code}: the title is no line");
        assert!(entry.meaning.len() >= 150, "{code}: says too little of its meaning");
        assert!(!entry.causes.is_empty(), "{code}: no cause");
        assert!(
            entry.look.iter().any(|step| step.command.is_some()),
            "{code}: nothing to look with"
        );
        assert!(!entry.remedy.is_empty(), "{code}: no remedy");
        assert!(!entry.related.is_empty(), "{code}: nothing related");
        assert!(!entry.related.contains(&code), "{code}: related to itself");
        let unique: BTreeSet<_> = entry.related.iter().collect();
        assert_eq!(unique.len(), entry.related.len(), "{code}: a related code twice");
        for step in entry.look.iter().chain(entry.remedy) {
            assert!(step.text.ends_with(['.', ':']), "{code}: {:?}", step.text);
            assert_eq!(
                step.text.ends_with(':'),
                step.command.is_some(),
                "{code}: {:?}",
                step.text
            );
        }
    }
}

/// A page's line continuations leave no runs of blanks, and its codes exist.
#[test]
fn every_page_is_clean_text_and_names_only_codes_that_exist() {
    for entry in CATALOGUE {
        let steps = entry.look.iter().chain(entry.remedy);
        let texts = [entry.title, entry.meaning, entry.silence]
            .into_iter()
            .chain(entry.causes.iter().copied())
            .chain(steps.clone().map(|step| step.text))
            .chain(steps.filter_map(|step| step.command));
        for text in texts {
            assert!(!text.contains("  "), "{}: a run of blanks in {text:?}", entry.code);
            for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
                let coded = ["POOL", "HOST", "PATH", "SAND", "SEEN"]
                    .iter()
                    .any(|family| word.len() == 6 && word.starts_with(family));
                if coded {
                    assert!(word.parse::<Code>().is_ok(), "{}: {word} does not exist", entry.code);
                }
            }
        }
    }
}
