//! The subject of a client certificate, as the API server reads it: the common name is the user, the
//! organizations are its groups.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::{Refusal, User};

/// What everybody whom the API server knows is in.
const AUTHENTICATED: &str = "system:authenticated";

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Common name.
    pub name: String,
    /// Organizations.
    pub organizations: Vec<String>,
    /// When it ends; `None`: that is no time that a clock shows.
    pub ends: Option<Timestamp>,
}

impl Subject {
    /// Reads a certificate (DER). That it is signed by whom and valid is the TLS handshake's to verify.
    pub fn read(der: &[u8]) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::Certificate(why);
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| bad(format!("it cannot be read ({error})")))?;
        let subject = certificate.subject();
        let mut names = texts(subject, X509Name::iter_common_name).map_err(bad)?;
        let name = match (names.pop(), names.is_empty()) {
            (Some(name), true) if !name.is_empty() => name,
            (None, _) => return Err(bad("it has no common name".to_owned())),
            (Some(_), true) => return Err(bad("its common name is empty".to_owned())),
            (Some(_), false) => return Err(bad("it has several common names".to_owned())),
        };
        Ok(Self {
            name,
            organizations: texts(subject, X509Name::iter_organization).map_err(bad)?,
            ends: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok(),
        })
    }

    /// As a user of the API server.
    pub fn user(self) -> User {
        let mut groups = self.organizations;
        groups.push(AUTHENTICATED.to_owned());
        User {
            name: self.name,
            groups,
            ..User::default()
        }
    }
}

fn texts<'a, I>(name: &'a X509Name<'a>, part: impl Fn(&'a X509Name<'a>) -> I) -> Result<Vec<String>, String>
where
    I: Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
{
    part(name)
        .map(|value| match value.as_str() {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err("a part of its subject is no text".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(parts: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// Another organization, for rcgen writes no more than one of each kind.
    fn organization() -> DnType {
        DnType::CustomDnType(vec![2, 5, 4, 10])
    }

    #[test]
    fn the_common_name_is_the_user_and_organizations_are_groups() {
        let der = certificate(&[
            (DnType::CommonName, "system:node:n1"),
            (DnType::OrganizationName, "system:nodes"),
            (organization(), "ops"),
        ]);
        let subject = Subject::read(&der).unwrap();
        assert_eq!(subject.name, "system:node:n1");
        assert_eq!(subject.organizations, ["system:nodes", "ops"]);
        assert_eq!(subject.ends, Some("2030-01-02T00:00:00Z".parse().unwrap()));
        let user = subject.user();
        assert_eq!(user.groups, ["system:nodes", "ops", "system:authenticated"]);
    }

    #[test]
    fn a_subject_that_does_not_name_exactly_one_is_refused() {
        let twice = [(DnType::CommonName, "a"), (DnType::CustomDnType(vec![2, 5, 4, 3]), "b")];
        for (parts, why) in [
            (&twice[..], "several"),
            (&[(DnType::OrganizationName, "system:nodes")], "no common name"),
            (&[(DnType::CommonName, "")], "empty"),
        ] {
            let text = Subject::read(&certificate(parts)).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
        let text = Subject::read(b"no DER").unwrap_err().to_string();
        assert!(text.contains("cannot be read"), "{text}");
    }
}
