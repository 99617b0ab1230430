//! What a finished command left: its exit code, its two outputs, and what a test says about them.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// The most of one output that a failed assertion shows.
const SHOWN: usize = 4000;

/// A finished command. The assertions return it again, so that they read as one sentence.
#[derive(Clone)]
pub struct Output {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// The exit code; `None` when a signal ended the command.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended the command.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as text, without the white space around it.
    pub fn word(&self) -> String {
        self.text().trim().to_owned()
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Standard error as text.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It ended with this code.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code() == Some(code), "expected exit code {code}\n{self:?}");
        self
    }

    /// It wrote exactly this to its standard output.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn prints(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        assert!(
            self.stdout == text,
            "expected this on standard output: {:?}\n{self:?}",
            String::from_utf8_lossy(text)
        );
        self
    }

    /// It wrote exactly this to its standard error.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn complains(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        assert!(
            self.stderr == text,
            "expected this on standard error: {:?}\n{self:?}",
            String::from_utf8_lossy(text)
        );
        self
    }

    /// It wrote nothing to its standard error.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn quietly(self) -> Self {
        self.complains("")
    }

    /// Its standard error has one line, by boxwood, with each of these texts in it.
    ///
    /// # Panics
    /// When it has none or more, or a text is missing.
    #[track_caller]
    pub fn explains(self, texts: &[&str]) -> Self {
        let complaint = self.complaint();
        let one_line = complaint.ends_with('\n') && complaint.matches('\n').count() == 1;
        assert!(one_line, "expected exactly one line on standard error\n{self:?}");
        assert!(complaint.starts_with("boxwood: "), "expected boxwood to say it\n{self:?}");
        for text in texts {
            assert!(complaint.contains(text), "expected the words '{text}' in it\n{self:?}");
        }
        self
    }

    /// Boxwood itself refused: 125, nothing on standard output, one line with each of these texts.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(self, texts: &[&str]) -> Self {
        self.exits(125).prints("").explains(texts)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  command: {}", self.command)?;
        writeln!(f, "  ended:   {} after {:.3} s", self.status, self.took.as_secs_f64())?;
        writeln!(f, "  stdout:  {}", shown(&self.stdout))?;
        write!(f, "  stderr:  {}", shown(&self.stderr))
    }
}

/// Bytes for people: readable, and not endless.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN)];
    let more = match bytes.len().checked_sub(SHOWN) {
        None | Some(0) => String::new(),
        Some(left) => format!(" and {left} bytes more"),
    };
    format!("{:?}{more}", String::from_utf8_lossy(start))
}
