//! How an error is told to people. Called wherever one becomes a message.

use std::error::Error;

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("can't open the box")]
    struct Outer(#[source] io::Error);

    #[test]
    fn each_cause_is_named_once() {
        let error = Outer(io::Error::other("it is nailed shut"));
        assert_eq!(super::chain(&error), "can't open the box: it is nailed shut");
    }
}
