//! What can be asked of a daemon: one function for each operation of docs/openapi.json. Those of snapshots and of
//! the pool are in `captures`.

use std::fmt::Write as _;

use boxwood_api::{
    AttachBox, BoxInfo, BoxList, BoxProcesses, BoxStats, CreateBox, CreateExec, Created, DeleteBox,
    DeleteImage, Ended, ExecCreated, ExecInfo, ImageList, ImportImage, KillBox, ListBoxes,
    ListEvents, LoadedImage, LoadedImages, Logs, Metrics, PruneAll, Pruned, RemovedImage,
    RenameBox, SignalExec, StopBox, TemplateList, TerminalSize, UpdateBox, Version,
};
use http::Method;
use serde::Serialize;
use serde_json::Value;

use crate::request::{Asked, Body};
use crate::{Client, Error, Lines, Reader, Writer};

/// Something that can be in a query.
pub trait Query: Serialize {}

impl<T: Serialize> Query for T {}

/// A path whose one name is made safe.
pub(crate) fn path(before: &str, name: &str, after: &str) -> String {
    let mut path = before.to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(byte as char),
            // A dot alone would be a folder.
            b'.' if name.len() > 2 => path.push('.'),
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    path + after
}

pub(crate) fn with(path: String, query: &impl Query) -> Result<String, Error> {
    let query = serde_html_form::to_string(query);
    let query = query.map_err(|error| Error::Stream(std::io::Error::other(error)))?;
    Ok(if query.is_empty() { path } else { format!("{path}?{query}") })
}

pub(crate) fn of_box(name: &str, verb: &str) -> String {
    path("/v1/boxes/", name, verb)
}

fn of_exec(id: &str, verb: &str) -> String {
    path("/v1/exec/", id, verb)
}

pub(crate) fn get(path: impl Into<String>) -> Asked {
    Asked::plain(Method::GET, path)
}

pub(crate) fn post(path: impl Into<String>) -> Asked {
    Asked::plain(Method::POST, path)
}

/// All of these fail when the daemon can't be reached, does not understand, or refuses.
#[allow(clippy::missing_errors_doc)]
impl Client {
    /// Boxes, newest first.
    pub async fn list(&self, which: &ListBoxes) -> Result<BoxList, Error> {
        self.ask(get(with("/v1/boxes".to_owned(), which)?)).await
    }

    /// A new box.
    pub async fn create(&self, request: &CreateBox) -> Result<Created, Error> {
        self.ask(Asked::json("/v1/boxes", request)).await
    }

    /// A box.
    pub async fn get(&self, name: &str) -> Result<BoxInfo, Error> {
        self.ask(get(of_box(name, ""))).await
    }

    /// Everything about a box, in Docker's words.
    pub async fn inspect(&self, name: &str) -> Result<Value, Error> {
        self.ask(get(of_box(name, "/inspect"))).await
    }

    /// Removes a box.
    pub async fn delete(&self, name: &str, how: &DeleteBox) -> Result<(), Error> {
        self.tell(Asked::plain(Method::DELETE, with(of_box(name, ""), how)?)).await
    }

    /// Starts a box for nobody.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.tell(post(of_box(name, "/start"))).await
    }

    /// Starts a box, which lives as long as the writer.
    pub async fn start_attached(&self, name: &str) -> Result<(Reader, Writer), Error> {
        self.stream(of_box(name, "/start")).await
    }

    /// Main's standard streams.
    pub async fn attach(&self, name: &str, how: &AttachBox) -> Result<(Reader, Writer), Error> {
        self.stream(with(of_box(name, "/attach"), how)?).await
    }

    /// Stops a box.
    pub async fn stop(&self, name: &str, how: &StopBox) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/stop"), how)).await
    }

    /// Restarts a box.
    pub async fn restart(&self, name: &str, how: &StopBox) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/restart"), how)).await
    }

    /// Sends main a signal.
    pub async fn kill(&self, name: &str, how: &KillBox) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/kill"), how)).await
    }

    /// Lets a box stand still.
    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        self.tell(post(of_box(name, "/pause"))).await
    }

    /// Lets a box go on.
    pub async fn unpause(&self, name: &str) -> Result<(), Error> {
        self.tell(post(of_box(name, "/unpause"))).await
    }

    /// Waits until a box has ended.
    pub async fn wait(&self, name: &str) -> Result<Ended, Error> {
        self.ask(get(of_box(name, "/wait"))).await
    }

    /// Gives a box another name.
    pub async fn rename(&self, name: &str, to: &RenameBox) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/rename"), to)).await
    }

    /// Changes a box.
    pub async fn update(&self, name: &str, how: &UpdateBox) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/update"), how)).await
    }

    /// Gives main's terminal another size.
    pub async fn resize(&self, name: &str, size: &TerminalSize) -> Result<(), Error> {
        self.tell(Asked::json(of_box(name, "/resize"), size)).await
    }

    /// The box stays when its client goes.
    pub async fn release(&self, name: &str) -> Result<(), Error> {
        self.tell(post(of_box(name, "/release"))).await
    }

    /// What main wrote.
    pub async fn logs(&self, name: &str, which: &Logs) -> Result<Reader, Error> {
        self.frames(with(of_box(name, "/logs"), which)?).await
    }

    /// What a box takes of the host.
    pub async fn stats(&self, name: &str) -> Result<BoxStats, Error> {
        self.ask(get(of_box(name, "/stats"))).await
    }

    /// The processes in a box.
    pub async fn top(&self, name: &str) -> Result<BoxProcesses, Error> {
        self.ask(get(of_box(name, "/top"))).await
    }

    /// What happens to boxes, as it happens.
    pub async fn events(&self, which: &ListEvents) -> Result<Lines, Error> {
        self.lines(with("/v1/events".to_owned(), which)?).await
    }

    /// Describes a command beside main.
    pub async fn create_exec(
        &self,
        name: &str,
        request: &CreateExec,
    ) -> Result<ExecCreated, Error> {
        self.ask(Asked::json(of_box(name, "/exec"), request)).await
    }

    /// What became of a command.
    pub async fn get_exec(&self, id: &str) -> Result<ExecInfo, Error> {
        self.ask(get(of_exec(id, ""))).await
    }

    /// Starts a command, which lives as long as the writer.
    pub async fn start_exec(&self, id: &str) -> Result<(Reader, Writer), Error> {
        self.stream(of_exec(id, "/start")).await
    }

    /// Starts a command that was described as detached.
    pub async fn start_detached(&self, id: &str) -> Result<(), Error> {
        self.tell(post(of_exec(id, "/start"))).await
    }

    /// Sends a command a signal.
    pub async fn signal_exec(&self, id: &str, signal: &SignalExec) -> Result<(), Error> {
        self.tell(Asked::json(of_exec(id, "/signal"), signal)).await
    }

    /// Gives a command's terminal another size.
    pub async fn resize_exec(&self, id: &str, size: &TerminalSize) -> Result<(), Error> {
        self.tell(Asked::json(of_exec(id, "/resize"), size)).await
    }

    /// The command goes on without its client.
    pub async fn release_exec(&self, id: &str) -> Result<(), Error> {
        self.tell(post(of_exec(id, "/release"))).await
    }

    /// Images.
    pub async fn images(&self) -> Result<ImageList, Error> {
        self.ask(get("/v1/images")).await
    }

    /// Loads images from an archive.
    pub async fn load(&self, archive: Body) -> Result<LoadedImages, Error> {
        self.ask(Asked { body: archive, ..post("/v1/images") }).await
    }

    /// Makes an image of a root file system.
    pub async fn import(&self, how: &ImportImage, archive: Body) -> Result<LoadedImage, Error> {
        let path = with("/v1/images/import".to_owned(), how)?;
        self.ask(Asked { body: archive, ..post(path) }).await
    }

    /// Removes an image.
    pub async fn remove_image(
        &self,
        image: &str,
        how: &DeleteImage,
    ) -> Result<RemovedImage, Error> {
        let path = with(path("/v1/images/", image, ""), how)?;
        self.ask(Asked::plain(Method::DELETE, path)).await
    }

    /// Templates.
    pub async fn templates(&self) -> Result<TemplateList, Error> {
        self.ask(get("/v1/templates")).await
    }

    /// Removes a template.
    pub async fn remove_template(&self, key: &str) -> Result<(), Error> {
        self.tell(Asked::plain(Method::DELETE, path("/v1/templates/", key, ""))).await
    }

    /// What was counted and timed.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        self.ask(get("/v1/metrics")).await
    }

    /// The same as Prometheus reads it.
    pub async fn metrics_text(&self) -> Result<String, Error> {
        self.text("/metrics").await
    }

    /// Removes what is not in use.
    pub async fn prune(&self, what: &PruneAll) -> Result<Pruned, Error> {
        self.ask(Asked::json("/v1/prune", what)).await
    }

    /// What answers there.
    pub async fn version(&self) -> Result<Version, Error> {
        self.ask(get("/v1/version")).await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn h13_names_in_paths_are_made_safe() {
        for (name, expected) in [
            ("web", "/v1/boxes/web/stop"),
            ("a.b-c_d", "/v1/boxes/a.b-c_d/stop"),
            ("..", "/v1/boxes/%2E%2E/stop"),
            ("../x", "/v1/boxes/..%2Fx/stop"),
            ("a b?c#d", "/v1/boxes/a%20b%3Fc%23d/stop"),
            ("ü", "/v1/boxes/%C3%BC/stop"),
        ] {
            assert_eq!(super::of_box(name, "/stop"), expected);
        }
    }
}
