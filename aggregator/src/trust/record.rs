//! The CAs as they are kept: the keys of a Secret, or of one JSON file.

use std::collections::BTreeMap;

use jiff::Timestamp;

use cidrift_proto::tls::pem;

use super::authority::{Authority, AuthorityError, validity, with_newline};
use super::rotation::{Next, Previous, State};

/// Key to text.
pub type Record = BTreeMap<String, String>;

/// Every key that is cidrift's own; others are left alone.
pub const KEYS: [&str; 7] = [
    "ca.crt",
    "ca.key",
    "next.crt",
    "next.key",
    "next.since",
    "previous.crt",
    "previous.until",
];

/// As it is kept.
pub fn write(state: &State) -> Record {
    let mut record = Record::new();
    let mut put = |key: &str, value: String| record.insert(key.to_owned(), value);
    put("ca.crt", state.current.certificate.clone());
    put("ca.key", state.current.key.clone());
    if let Some(next) = &state.next {
        put("next.crt", next.authority.certificate.clone());
        put("next.key", next.authority.key.clone());
        if let Some(since) = next.since {
            put("next.since", since.to_string());
        }
    }
    if !state.previous.is_empty() {
        let each = state.previous.iter();
        put(
            "previous.crt",
            each.clone().map(|one| one.certificate.as_str()).collect(),
        );
        let lines: Vec<String> = each.map(|one| format!("{}\n", one.until)).collect();
        put("previous.until", lines.concat());
    }
    record
}

/// What was kept; `None` where neither `ca.crt` nor `ca.key` is there. `place` names it in errors.
pub fn read(record: &Record, place: &str) -> Result<Option<State>, AuthorityError> {
    let text = |key: &str| {
        record
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.trim().is_empty())
    };
    let pair = |crt: &str, key: &str| match (text(crt), text(key)) {
        (None, None) => Ok(None),
        (Some(certificate), Some(private)) => {
            Authority::parse(certificate, private, &format!("{place} ({crt}, {key})")).map(Some)
        }
        (Some(_), None) => Err(AuthorityError::Unfit(format!("{place} has {crt} but no {key}"))),
        (None, Some(_)) => Err(AuthorityError::Unfit(format!("{place} has {key} but no {crt}"))),
    };
    let Some(current) = pair("ca.crt", "ca.key")? else {
        return Ok(None);
    };
    let next = pair("next.crt", "next.key")?.map(|authority| Next {
        authority,
        // A time that cannot be read is no time: it begins anew, which is late but never too early.
        since: text("next.since").and_then(|text| text.trim().parse().ok()),
    });
    Ok(Some(State {
        current,
        next,
        previous: previous(text("previous.crt"), text("previous.until"), place)?,
    }))
}

/// Those that signed. One whose time cannot be read is believed as long as it is valid.
fn previous(certificates: Option<&str>, until: Option<&str>, place: &str) -> Result<Vec<Previous>, AuthorityError> {
    let Some(certificates) = certificates else {
        return Ok(Vec::new());
    };
    let mut times = until
        .unwrap_or("")
        .lines()
        .map(|line| line.trim().parse::<Timestamp>().ok());
    let all = pem::certificates(certificates.as_bytes(), &format!("previous.crt of {place}"))?;
    let sections = certificates.split_inclusive("-----END CERTIFICATE-----");
    let read = all.iter().zip(sections).map(|(der, section)| {
        let (_, not_after) =
            validity(der).ok_or_else(|| AuthorityError::Unfit(format!("previous.crt of {place} is no X.509")))?;
        Ok(Previous {
            certificate: with_newline(section),
            until: times.next().flatten().unwrap_or(not_after),
        })
    });
    read.collect()
}
