//! Bearer tokens: kept from logs, recognised by their digest, and asked for nothing but when they end.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

/// What a credential is recognised by: SHA-256.
pub type Digest = [u8; 32];

/// Longer is none: the kubelet's are 1 to 2 KiB, and those of OIDC providers with many groups below 8 KiB.
const LONGEST: usize = 16 * 1024;

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl Token {
    /// Takes what an `authorization` header has after `Bearer`. The error says what is wrong with it and shows nothing of it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if text.len() > LONGEST {
            return Err("it is longer than 16 KiB");
        }
        if !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err("it has other characters than printable ASCII, or spaces");
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself, for the API server.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What it is recognised by.
    pub fn digest(&self) -> Digest {
        digest(self.0.as_bytes())
    }

    /// When it ends, as a JWT says of itself; `None`: it does not say, or it is no JWT. Nobody has checked that:
    /// it is only good for how long an answer about the token may be kept.
    pub fn expiry(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Claims {
            exp: f64,
        }
        let mut parts = self.0.split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        // RFC 7519: seconds, with or without a fraction. What no clock can show is no time.
        if !claims.exp.is_finite() || claims.exp.abs() > 253_402_207_200.0 {
            return None;
        }
        Timestamp::from_second(claims.exp as i64).ok()
    }
}

/// SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    let mut out = Digest::default();
    // SHA-256 has as many bytes as a Digest.
    for (to, from) in out
        .iter_mut()
        .zip(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
    {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jwt(payload: &str) -> Token {
        Token::new(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))).unwrap()
    }

    #[test]
    fn the_end_of_a_token_is_what_its_payload_says() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        assert_eq!(
            jwt(r#"{"exp":1700000000,"aud":["cidrift"]}"#).expiry(),
            at(1_700_000_000)
        );
        assert_eq!(jwt(r#"{"exp":1700000000.9}"#).expiry(), at(1_700_000_000));
        assert_eq!(jwt(r#"{"exp":-1}"#).expiry(), at(-1));
        for none in [r#"{"exp":"soon"}"#, r#"{"exp":1e300}"#, "{}", "[]", "no JSON"] {
            assert_eq!(jwt(none).expiry(), None, "{none}");
        }
        for none in ["opaque", "a.b", "a.b.c", "e30.e30.e30.e30", "e30.*.e30"] {
            assert_eq!(Token::new(none).unwrap().expiry(), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_token_is_said_and_never_shown() {
        for (text, why) in [("", "empty"), ("a b", "spaces"), ("a\nb", "spaces"), ("ä", "ASCII")] {
            let error = Token::new(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!(Token::new(&"a".repeat(LONGEST + 1)).unwrap_err().contains("16 KiB"));
        let token = Token::new("secret").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_digest_is_sha_256() {
        let hex: String = digest(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    proptest! {
        #[test]
        fn nothing_that_a_peer_sends_makes_the_reading_of_its_end_fail(text in "[!-~]{0,200}", payload in ".{0,60}") {
            if let Ok(token) = Token::new(&text) {
                token.expiry();
            }
            jwt(&payload).expiry();
        }
    }
}
