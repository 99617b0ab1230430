//! What a daemon answers, and what a test says about it.

use serde_json::Value;

use super::find;
use super::frame::{Frame, frame};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub asked: String,
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8], asked: &str) -> Option<Answer> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = &bytes[end + 4..];
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_vec() };
        Some(Answer { asked: asked.chars().take(300).collect(), status, head, body })
    }

    /// It has this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}\n{}", self.asked, self.head, self.text());
        self
    }

    /// It is an error of this kind, and says this.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn fails(self, status: u16, kind: &str, words: &[&str]) -> Self {
        let answer = self.is(status);
        let error = answer.json()["error"].clone();
        assert_eq!(error["kind"], kind, "{}: {error}", answer.asked);
        let message = error["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "{}: no '{word}' in '{message}'", answer.asked);
        }
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        answer
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.text()))
    }

    /// Its body's frames, joined: standard output and standard error.
    pub fn frames(&self) -> (String, String) {
        let mut bytes = self.body.clone();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(frame) = frame(&mut bytes) {
            match frame {
                Frame::Stdout(bytes) => out.extend(bytes),
                Frame::Stderr(bytes) => err.extend(bytes),
                Frame::Reply(_) => {}
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(out), text(err))
    }
}

/// A body that came in pieces, as far as it has come.
pub(super) fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16);
        let Ok(length @ 1..) = length else { break };
        whole.extend(&bytes[end + 2..(end + 2 + length).min(bytes.len())]);
        bytes = bytes.get(end + 2 + length + 2..).unwrap_or_default();
    }
    whole
}
