//! `doctor`: whether boxes can run here. Changes nothing, downloads nothing, bakes nothing.

use boxwood_setup::{Patient, Report, Sources, VmPlaces};

use crate::{Error, Locations, prepare};

/// Looks at everything a box needs. The home need not be there.
///
/// # Errors
/// When the environment names sources that can't be.
pub async fn examine(locations: &Locations) -> Result<Report, Error> {
    let (stores, sources) = (prepare::stores(locations), Sources::from_env()?);
    let patient = Patient { home: &locations.home, stores: &stores, sources: &sources };
    let (templates, cache) = (prepare::templates(locations), locations.cache());
    let places = VmPlaces { templates: &templates, cache: &cache };
    Ok(Report::examine_all(&patient, &places).await)
}
