//! What a request brings to show who sends it.

use std::net::IpAddr;

use tonic::Request;
use tonic::metadata::MetadataMap;

use super::token::Token;

/// A bearer token, and the client certificate of the connection.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The token, or what is wrong with the `authorization` that was sent; `None`: none was.
    pub token: Option<Result<Token, &'static str>>,
    /// The client's own certificate (DER), which the TLS handshake has verified.
    pub certificate: Option<Vec<u8>>,
    /// Where it comes from; `None`: unknown.
    pub from: Option<IpAddr>,
}

impl Credentials {
    /// Those of a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let chain = request.peer_certs();
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        Self {
            token: bearer(request.metadata()),
            certificate: leaf.map(|leaf| leaf.as_ref().to_vec()),
            from: request.remote_addr().map(|from| from.ip().to_canonical()),
        }
    }
}

/// `authorization: Bearer TOKEN`, the scheme in either case, as the API server takes it.
fn bearer(metadata: &MetadataMap) -> Option<Result<Token, &'static str>> {
    let mut all = metadata.get_all("authorization").iter();
    let value = all.next()?;
    if all.next().is_some() {
        return Some(Err("there are several"));
    }
    let Ok(text) = value.to_str() else {
        return Some(Err("it is not ASCII"));
    };
    Some(match text.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Token::new(token.trim()),
        None if text.trim().eq_ignore_ascii_case("bearer") => Token::new(""),
        _ => Err("it is none of the scheme Bearer"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&str]) -> Option<Result<Token, &'static str>> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        let credentials = Credentials::of(&request);
        assert!(credentials.certificate.is_none());
        credentials.token
    }

    #[test]
    fn a_bearer_token_is_taken_in_either_spelling() {
        for text in ["Bearer abc", "bearer abc", "BEARER  abc ", " Bearer abc"] {
            assert_eq!(with(&[text]).unwrap().unwrap().secret(), "abc", "{text:?}");
        }
        assert!(with(&[]).is_none());
    }

    #[test]
    fn anything_else_is_told_from_none_at_all() {
        for (values, why) in [
            (&["Basic YTpi"][..], "scheme"),
            (&["abc"], "scheme"),
            (&["Bearer"], "empty"),
            (&["Bearer "], "empty"),
            (&["Bearer a b"], "spaces"),
            (&["Bearer a", "Bearer b"], "several"),
        ] {
            let error = with(values).unwrap().unwrap_err();
            assert!(error.contains(why), "{values:?}: {error}");
        }
    }
}
