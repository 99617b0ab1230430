//! `create`: a box's directory, complete and not started.

use boxwood_setup::BlankDisk;
use boxwood_state::events::Action;
use boxwood_state::{BoxDir, BoxSpec, NewBox, StateError, failpoint};
use boxwood_types::{BoxId, BoxName};

use crate::pool::Seat;
use crate::request::Resolved;
use crate::start::Held;
use crate::{CreateRequest, Error, Prepared, Runtime, names};

/// Names that are tried before giving up.
const ATTEMPTS: u32 = 20;

impl Runtime {
    /// Makes a box from a request and from what [`prepare`](Self::prepare) found. On failure nothing
    /// stays behind.
    ///
    /// # Errors
    /// When the request does not fit the image, the name is taken, or the disk says no.
    pub fn create(&self, request: &CreateRequest, prepared: &Prepared) -> Result<Held, Error> {
        self.create_on(request, prepared, None)
    }

    /// The same for a box that is started at once: if a VM waits for such a box, it is this box's.
    ///
    /// # Errors
    /// As those of [`create`](Self::create).
    pub fn create_to_start(
        &self,
        request: &CreateRequest,
        prepared: &Prepared,
    ) -> Result<Held, Error> {
        self.create_on(request, prepared, self.find_seat(prepared))
    }

    fn create_on(
        &self,
        request: &CreateRequest,
        prepared: &Prepared,
        seat: Option<Seat>,
    ) -> Result<Held, Error> {
        request.check()?;
        let (new, spec) = self.reserve(request.name.as_ref(), |id, name| {
            let (template, again) = (prepared.template.clone(), prepared.again.clone());
            request.spec(Resolved { image: &prepared.image, template, again, id, name })
        })?;
        let (dir, owner) = new.into_parts()?;
        let held = Held { dir, spec, owner, seat };
        // A VM that waits for it brings its disk along.
        let made = if held.seat.is_some() { Ok(()) } else { make_disk(&held.dir, &prepared.blank) };
        match made {
            Ok(()) => {
                failpoint("create: disk made");
                self.home.announce(&held.spec, &Action::Create);
                failpoint("create: announced");
                Ok(held)
            }
            Err(error) => {
                // Nothing ran in it. If it can't be removed either, it stays as 'created'.
                let _ = self.home.remove(&held.dir);
                Err(error)
            }
        }
    }

    /// Makes a box's directory under this name, or one that is made up.
    pub(crate) fn reserve(
        &self,
        wanted: Option<&BoxName>,
        spec: impl Fn(BoxId, BoxName) -> Result<BoxSpec, Error>,
    ) -> Result<(NewBox, BoxSpec), Error> {
        for attempt in 0..ATTEMPTS {
            let mut random = [0; 36];
            getrandom::fill(&mut random).map_err(Error::Random)?;
            let id = BoxId::from_random(std::array::from_fn(|i| random[i]));
            let made_up = || names::name(std::array::from_fn(|i| random[32 + i]), attempt);
            let spec = spec(id, wanted.cloned().unwrap_or_else(made_up))?;
            match self.home.create(&spec) {
                Ok(new) => return Ok((new, spec)),
                Err(StateError::NameTaken { .. }) if wanted.is_none() => {}
                // The one that has it may be lost, and was to be removed at its end.
                Err(StateError::NameTaken { .. }) if attempt == 0 => self.recover()?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::NoFreeName)
    }
}

/// Makes a box's disk: all of it, or none.
pub(crate) fn make_disk(dir: &BoxDir, blank: &BlankDisk) -> Result<(), Error> {
    let disk = dir.new_overlay()?;
    blank.copy_to(&disk)?;
    failpoint("create: disk written");
    dir.take_new_disk().map_err(|source| Error::Disk { path: dir.disk(), source })
}
