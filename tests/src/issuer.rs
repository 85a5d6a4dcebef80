//! An issuer of tokens inside the test's process: an OpenID Connect provider with one key, or with none, or worse.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{Certificate, Registry};

/// The path of the JWK set.
const KEYS: &str = "/keys";

/// The path of the configuration (OpenID Connect Discovery 1.0, section 4).
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// An issuer on a port of its own. It ends when this value is dropped.
pub struct Issuer {
    server: Registry,
    key: EcdsaKeyPair,
}

impl Issuer {
    /// Starts an issuer that publishes one key for ES256.
    pub async fn start() -> Self {
        Self::with(Registry::start().await)
    }

    /// As [`Self::start`], with TLS.
    pub async fn secure(certificate: &Certificate) -> Self {
        Self::with(Registry::secure(certificate).await)
    }

    fn with(server: Registry) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let issuer = Self { server, key };
        issuer.publish();
        issuer
    }

    /// The issuer as tokens name it.
    #[must_use]
    pub fn name(&self) -> String {
        let scheme = if self.server.is_secure() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.server.host())
    }

    /// Publishes the configuration and the key.
    pub fn publish(&self) {
        let name = self.name();
        let configuration = json!({ "issuer": name, "jwks_uri": name.clone() + KEYS });
        self.server
            .put(CONFIGURATION, configuration.to_string().as_bytes());
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": text(x), "y": text(y) });
        let set = json!({ "keys": [key] });
        self.server.put(KEYS, set.to_string().as_bytes());
    }

    /// Answers every request with an error.
    pub fn fail(&self) {
        for path in [CONFIGURATION, KEYS] {
            let error = "HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            self.server.answer(path, error, crate::After::Close);
        }
    }

    /// A token for `ada` and the audience `chat`, good for ten minutes, with these claims in addition or instead. A claim
    /// that is null is left out.
    #[must_use]
    pub fn token(&self, claims: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut all = json!({
            "iss": self.name(), "aud": "chat", "sub": "ada", "exp": now.as_secs() + 600,
        });
        let Value::Object(claims) = claims else {
            panic!("claims are an object: {claims}")
        };
        let whole = all.as_object_mut().unwrap();
        whole.extend(claims);
        whole.retain(|_, value| !value.is_null());
        let header = json!({ "alg": "ES256", "kid": "one" });
        let signed = format!("{}.{}", text(header.to_string()), text(all.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", text(signature.unwrap()))
    }

    /// The paths of the requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.server.asked()
    }
}

/// Base64url without padding.
fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
