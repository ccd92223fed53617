//! What of a host was held against what its Node says.

use serde::Serialize;

use crate::{Malformed, v1};

/// Whether a witness agrees with the Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agrees {
    /// It does.
    Yes,
    /// It does not; a finding says more.
    No,
    /// It could not be judged.
    Unknown,
    /// There is nothing to compare: the Node itself, a bridge that is not there yet.
    Nothing,
}

/// One witness of a host's pod addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What it is: "CNI config", "bridge cni0", "running pods".
    pub what: String,
    /// What it says.
    pub value: String,
    /// Who says so.
    pub source: String,
    /// Whether that agrees with the Node.
    pub agrees: Agrees,
}

impl From<&Compared> for v1::Compared {
    fn from(row: &Compared) -> Self {
        let agrees = match row.agrees {
            Agrees::Yes => v1::Agrees::Yes,
            Agrees::No => v1::Agrees::No,
            Agrees::Unknown => v1::Agrees::Unknown,
            Agrees::Nothing => v1::Agrees::Nothing,
        };
        Self {
            what: row.what.clone(),
            value: row.value.clone(),
            source: row.source.clone(),
            agrees: agrees.into(),
        }
    }
}

impl TryFrom<&v1::Compared> for Compared {
    type Error = Malformed;

    fn try_from(wire: &v1::Compared) -> Result<Self, Malformed> {
        let agrees = match v1::Agrees::try_from(wire.agrees).unwrap_or(v1::Agrees::Unspecified) {
            v1::Agrees::Yes => Agrees::Yes,
            v1::Agrees::No => Agrees::No,
            v1::Agrees::Unknown => Agrees::Unknown,
            v1::Agrees::Nothing => Agrees::Nothing,
            v1::Agrees::Unspecified => {
                return Err(Malformed::UnknownValue {
                    field: "compared.agrees",
                    value: wire.agrees.into(),
                });
            }
        };
        Ok(Self {
            what: wire.what.clone(),
            value: wire.value.clone(),
            source: wire.source.clone(),
            agrees,
        })
    }
}
