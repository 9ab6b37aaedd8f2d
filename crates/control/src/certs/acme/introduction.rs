//! introduction: what is said to a CA that does not know us yet (RFC 8555 §7.3), signed with a key that is kept already.
//!
//! The library makes an account either with a key of its own, which nobody has before the CA does, or without saying who we are. So
//! it is left to choose the nonce and to hear the answer, and what it says is said by us.

use super::client::Web;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request};
use instant_acme::{Account, BodyWrapper, BytesResponse, Error, HttpClient, Key};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// Asks the CA with this directory for the account that belongs to `key`, in PKCS #8, which it makes if there is none. What it calls it.
pub async fn introduce(web: Web, directory: &str, key: Vec<u8>, words: Who) -> Result<String, Error> {
    let own = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key);
    let own = own.map_err(|_| Error::KeyRejected)?;
    let key = PrivatePkcs8KeyDer::from(key);
    let pair = (Key::from_pkcs8_der(key.clone_key())?, key.into());
    let speaker = Speaker { web, words: Arc::new(Words { key: own, who: words }) };
    let builder = Account::builder_with_http(Box::new(speaker));
    let (account, _) = builder.create_from_key(pair, directory.to_owned()).await?;
    Ok(account.id().to_owned())
}

/// Who we are.
pub struct Who {
    /// Where people can be reached.
    pub contact: Vec<String>,
    /// The name of the account that the operator had before, and its key.
    pub external: Option<(String, Vec<u8>)>,
}

struct Speaker {
    web: Web,
    words: Arc<Words>,
}

struct Words {
    key: EcdsaKeyPair,
    who: Who,
}

impl HttpClient for Speaker {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        if request.method() != Method::POST {
            return self.web.request(request);
        }
        let (web, words) = (self.web.clone(), Arc::clone(&self.words));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let said = words.instead_of(&body.to_bytes())?;
            web.request(Request::from_parts(parts, BodyWrapper::from(said))).await
        })
    }
}

impl Words {
    /// The same request, with what we want to say. Only one that shows its key asks for an account (RFC 8555 §6.2).
    fn instead_of(&self, request: &[u8]) -> Result<Vec<u8>, Error> {
        let mut request: Value = serde_json::from_slice(request)?;
        let protected = request["protected"].as_str().unwrap_or_default().to_owned();
        let head = BASE64_URL_SAFE_NO_PAD.decode(&protected).map_err(|error| Error::Other(error.into()))?;
        let head: Value = serde_json::from_slice(&head)?;
        if head["jwk"].is_object() {
            let payload = coded(&self.payload(&head));
            let signed = format!("{protected}.{payload}");
            let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
            let signature = signature.map_err(|_| Error::Crypto)?;
            request["payload"] = payload.into();
            request["signature"] = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()).into();
        }
        Ok(request.to_string().into_bytes())
    }

    fn payload(&self, head: &Value) -> Value {
        let mut payload = json!({ "termsOfServiceAgreed": true });
        if !self.who.contact.is_empty() {
            payload["contact"] = json!(self.who.contact);
        }
        if let Some((id, key)) = &self.who.external {
            payload["externalAccountBinding"] = bound(id, key, head);
        }
        payload
    }
}

/// That whoever has this key had an account before (RFC 8555 §7.3.4).
fn bound(id: &str, key: &[u8], head: &Value) -> Value {
    let protected = coded(&json!({ "alg": "HS256", "kid": id, "url": head["url"] }));
    let payload = coded(&head["jwk"]);
    let signature =
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), format!("{protected}.{payload}").as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
    json!({ "protected": protected, "payload": payload, "signature": signature })
}

fn coded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}
