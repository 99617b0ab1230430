//! A connection to a daemon, whatever it goes over.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a client and the daemon say to each other.
pub trait Wire: Read + Write + Send {
    /// How long a read may take.
    ///
    /// # Errors
    /// When the connection is gone.
    fn patience(&self, time: Duration) -> io::Result<()>;

    /// The same connection once more.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    fn again(&self) -> io::Result<Box<dyn Wire>>;

    /// Writes no more than is taken at once.
    ///
    /// # Errors
    /// When the connection is gone.
    fn never_wait(&self) -> io::Result<()>;
}

impl Wire for UnixStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn again(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn never_wait(&self) -> io::Result<()> {
        self.set_write_timeout(Some(Duration::from_millis(500)))
    }
}

impl Wire for TcpStream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn again(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn never_wait(&self) -> io::Result<()> {
        self.set_write_timeout(Some(Duration::from_millis(500)))
    }
}
