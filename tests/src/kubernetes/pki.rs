//! One certificate authority for a cluster, and what it signs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use crate::kubernetes::error::{Result, io};

/// The authority. It signs servers, clients and (through
/// kube-controller-manager) certificate requests.
pub struct Pki {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// A certificate's two files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM, world-readable.
    pub certificate: PathBuf,
    /// PEM, PKCS#8, for root alone.
    pub key: PathBuf,
}

impl Pki {
    /// Makes the authority and the key that signs service accounts' tokens in `directory`.
    pub fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).map_err(io(format!("make {}", directory.display())))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "cidrift bench");
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pki = Self {
            directory: directory.to_owned(),
            issuer,
        };
        write(&pki.ca(), &pki.issuer.pem(), 0o644)?;
        write(&pki.ca_key(), &pki.issuer.key().serialize_pem(), 0o600)?;
        let tokens = KeyPair::generate()?;
        write(&pki.service_account_key(), &tokens.serialize_pem(), 0o600)?;
        write(&pki.service_account_public_key(), &tokens.public_key_pem(), 0o644)?;
        Ok(pki)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Its key.
    pub fn ca_key(&self) -> PathBuf {
        self.directory.join("ca.key")
    }

    /// The key that signs service accounts' tokens.
    pub fn service_account_key(&self) -> PathBuf {
        self.directory.join("sa.key")
    }

    /// Its public half.
    pub fn service_account_public_key(&self) -> PathBuf {
        self.directory.join("sa.pub")
    }

    /// A server's pair, for these names and addresses.
    pub fn server(&self, name: &str, names: &[String]) -> Result<Pair> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, params)
    }

    /// A client's pair: `user` is who it is to the API server, `group` what
    /// it belongs to ("system:nodes"); rcgen writes no more than one.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&user.replace(':', "-"), params)
    }

    /// A kubeconfig for that client, with everything inside, written to `path`.
    pub fn kubeconfig(&self, path: &Path, server: &str, user: &str, group: Option<&str>) -> Result<()> {
        let pair = self.client(user, group)?;
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {
                "server": server,
                "certificate-authority-data": base64(&read(&self.ca())?),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": base64(&read(&pair.certificate)?),
                "client-key-data": base64(&read(&pair.key)?),
            }}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
            "current-context": "bench",
        });
        write(path, &format!("{text:#}\n"), 0o600)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            certificate: self.directory.join(format!("{name}.crt")),
            key: self.directory.join(format!("{name}.key")),
        };
        write(&pair.certificate, &certificate.pem(), 0o644)?;
        write(&pair.key, &key.serialize_pem(), 0o600)?;
        Ok(pair)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(io(format!("read {}", path.display())))
}

/// Writes `text`, readable from the first moment on by whom `mode` names.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = fs::File::options();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io(format!("write {}", path.display())))
}

/// Standard base64 with padding, as kubeconfig files have it.
fn base64(bytes: &[u8]) -> String {
    use k8s_openapi::ByteString;
    // ByteString's JSON is base64: Kubernetes' own encoding of bytes.
    match serde_json::to_value(ByteString(bytes.to_vec())) {
        Ok(serde_json::Value::String(text)) => text,
        other => unreachable!("bytes are a JSON string in Kubernetes: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_says_who_the_client_is_and_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::new(directory.path()).unwrap();
        let path = directory.path().join("config");
        pki.kubeconfig(&path, "https://172.30.0.1:6443", "system:node:n1", Some("system:nodes"))
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config = kube::config::Kubeconfig::read_from(&path).unwrap();
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert!(user.client_certificate_data.is_some() && user.client_key_data.is_some());
        assert_eq!(config.auth_infos[0].name, "system:node:n1");
    }

    #[test]
    fn bytes_become_padded_base64() {
        assert_eq!(base64(b"cidr"), "Y2lkcg==");
    }
}
