//! The pool: what a client asks of it, checked, and what is told about it.

use boxwood_api::{PoolFailure, PoolShape, PoolVm, SetPool};
use boxwood_runtime::{Pool, PoolRequest};

use super::value::{rfc3339, shape, text};
use crate::error::ApiError;

/// The image of a pool for which none is named.
const IMAGE: &str = "busybox";

/// What is wanted.
pub(crate) fn pool_request(asked: SetPool) -> Result<PoolRequest, ApiError> {
    Ok(PoolRequest {
        shape: shape(asked.cpus, asked.memory_bytes)?,
        count: asked.count,
        image: text(asked.image.unwrap_or_else(|| IMAGE.to_owned()))?,
    })
}

/// What is wanted, and what there is.
pub(crate) fn pool(found: Pool) -> boxwood_api::Pool {
    let shapes = found.wanted.into_iter().map(|one| PoolShape {
        shape: one.shape.to_string(),
        count: one.count,
        image: one.image,
    });
    let vms = found.members.iter().map(|member| PoolVm {
        id: member.spec.id.to_string(),
        shape: member.spec.shape.to_string(),
        image: member.spec.image.name.clone(),
        created: rfc3339(member.spec.created),
        ready: member.is_ready(),
    });
    let failures = found.failures.into_iter().map(|(shape, failure)| PoolFailure {
        shape: shape.to_string(),
        time: rfc3339(failure.time),
        message: failure.message,
    });
    boxwood_api::Pool { shapes: shapes.collect(), vms: vms.collect(), failures: failures.collect() }
}
