//! Idempotency keys: a request to create that is sent twice is done once. The key and the digest of
//! its request are labels of the box, written before anybody can see it, so they live exactly as long
//! as the box does. What is kept here is only who of this daemon's
//! clients is at it right now; others are kept out by a lock in the home. Called by `routes::boxes`.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use boxwood_api::{BODY_LABEL, CreateBox, ErrorKind, IDEMPOTENCY_KEY, KEY_LABEL};
use boxwood_runtime::{Error, Listed, Runtime};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use crate::error::ApiError;

/// The longest key.
const MAX: usize = 128;
/// How long another daemon may be at a key: what the bake of a template takes at most, and some more.
const MAKING: Duration = Duration::from_secs(150);

/// The keys that are in use right now: as many as there are requests.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A key and what it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) key: String,
    pub(crate) body: String,
}

impl Key {
    /// The key of a request, if it has one.
    pub(crate) fn of(headers: &HeaderMap, body: &CreateBox) -> Result<Option<Key>, ApiError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value.to_str().unwrap_or_default();
        let plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > MAX || !plain || values.next().is_some() {
            let message = format!("an {IDEMPOTENCY_KEY} has 1 to {MAX} visible ASCII characters");
            return Err(ApiError::bad(message));
        }
        // Of the request as it was understood: how it was written does not matter.
        let body = serde_json::to_vec(body).expect("plain data always encodes");
        let digest = Sha256::digest(body);
        let body = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Key { key: key.to_owned(), body }))
    }

    /// Waits until no other daemon of the home is at this key. Blocks.
    pub(crate) fn lock(&self, runtime: &Runtime) -> Result<File, ApiError> {
        let [first, ..]: [u8; 32] = Sha256::digest(&self.key).into();
        let (sender, receiver) = mpsc::channel();
        let runtime = runtime.clone();
        // A lock has no deadline. What comes too late is given back with the channel.
        std::thread::spawn(move || sender.send(runtime.home().creating(first)));
        let locked = receiver.recv_timeout(MAKING).map_err(|_| {
            let message = format!(
                "another daemon is still at the {IDEMPOTENCY_KEY} '{}' or at one like it: try again",
                self.key
            );
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Conflict, message)
        })?;
        Ok(locked.map_err(Error::from)?)
    }

    /// The box that this request has made before. Blocks.
    pub(crate) fn find(&self, runtime: &Runtime) -> Result<Option<Listed>, ApiError> {
        let boxes = runtime.list(&mut |_| {})?;
        let has = |listed: &Listed| listed.spec.labels.get(KEY_LABEL) == Some(&self.key);
        let Some(found) = boxes.into_iter().find(has) else { return Ok(None) };
        if found.spec.labels.get(BODY_LABEL) != Some(&self.body) {
            let message = format!(
                "the {IDEMPOTENCY_KEY} '{}' came with another request, which made box {}",
                self.key,
                found.spec.id.short()
            );
            return Err(ApiError::new(StatusCode::CONFLICT, ErrorKind::KeyReused, message));
        }
        Ok(Some(found))
    }
}

impl Keys {
    /// Waits until nobody else is at this key.
    pub(crate) async fn hold(&self, key: &Key) -> OwnedMutexGuard<()> {
        let one = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(busy.entry(key.key.clone()).or_default())
        };
        one.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Option<Key>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, text.parse().unwrap());
        Key::of(&headers, &CreateBox::default())
    }

    #[test]
    fn a_key_is_short_and_visible() {
        for (text, expected) in [
            ("a", true),
            ("7f0c-4a", true),
            (&*"k".repeat(128), true),
            (&*"k".repeat(129), false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(key(text).is_ok(), expected, "{text}");
        }
        assert_eq!(Key::of(&HeaderMap::new(), &CreateBox::default()).unwrap(), None);
    }

    #[test]
    fn the_same_request_written_otherwise_has_the_same_digest() {
        let read = |text| serde_json::from_str::<CreateBox>(text).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, "k".parse().unwrap());
        let of = |text| Key::of(&headers, &read(text)).unwrap();
        let one = of(r#"{"image":"busybox","command":["a"],"name":null}"#);
        assert_eq!(one, of(r#"{ "command": ["a"], "image": "busybox" }"#));
        assert_ne!(one, of(r#"{ "command": ["b"], "image": "busybox" }"#));
    }

    #[tokio::test]
    async fn keys_that_nobody_is_at_are_forgotten() {
        let keys = Keys::default();
        for number in 0..100 {
            let key = Key { key: number.to_string(), body: String::new() };
            drop(keys.hold(&key).await);
        }
        assert_eq!(keys.busy.lock().unwrap().len(), 1);
    }
}
