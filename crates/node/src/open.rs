//! Finds or creates an object.

use crucial_object::{Error, ObjectId, Result, TypeInfo};
use crucial_proto::frame::{OpenMode, OpenRequest};

use crate::admit::{Admitted, Hand, executed_before, outcome};
use crate::cell::{CallId, Cell};
use crate::ids::{Millis, REPLICAS_MAX};
use crate::job::Plan;
use crate::node::Node;
use crate::objects::{ObjectState, RequestContext};
use crate::outputs::Outputs;
use crate::partitions::{PartitionState, Reply};
use crate::replication::{Body, Home, Origin, Replica};

/// On how many servers an object is kept if nobody says so.
pub const REPLICAS_OF_PERSISTENT: u8 = 2;
const REPLICAS_OF_RUN: u8 = 1;

/// The longest name of a type, with the kinds of its parameters.
pub const TYPE_NAME_BYTES_MAX: usize = 4096;

impl Node {
    pub(crate) fn admit_open(
        &self,
        hand: &mut Hand<'_>,
        Admitted { mut part, term }: Admitted<'_>,
        context: &RequestContext,
        request: &OpenRequest,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<Plan> {
        let call = context.call();
        let (object, last) = (hand.id(), part.partition.last());
        // A name that is not here may be that of an object that is gone, and must not come back empty.
        let may_be_gone = request.persistent && part.partition.is_amnesic();
        let reply = if let Some(created) = part.partition.done(call) {
            executed_before(call, created, object)
        } else {
            match (existing(hand.state), request.mode) {
                (Existing::Nothing, OpenMode::Find | OpenMode::FindOrCreate) if may_be_gone => {
                    self.reply_lost(object, &mut part, context, now, out);
                    return None;
                }
                (Existing::Whole(origin), OpenMode::Find | OpenMode::FindOrCreate)
                    if !agree(&origin.type_name, &request.type_name) =>
                {
                    Reply {
                        call,
                        result: Err(other_parameters(&origin.type_name, request)),
                    }
                }
                (Existing::Whole(_), OpenMode::Find | OpenMode::FindOrCreate) => {
                    self.record_request(&mut part, context, Some(false));
                    outcome(call, false)
                }
                (Existing::Lost(creator), OpenMode::Find | OpenMode::FindOrCreate)
                    if creator != call =>
                {
                    return {
                        self.reply_lost(object, &mut part, context, now, out);
                        None
                    };
                }
                (Existing::Nothing, OpenMode::Find) => Reply {
                    call,
                    result: Err(Error::NotFound {
                        type_name: request.type_name.clone(),
                        key: request.key.clone(),
                    }),
                },
                _ => match self.creatable(object, &part, (context, request)) {
                    Ok(info) => return Some(Plan::Create(term, info)),
                    Err(error) => {
                        drop(part);
                        self.reply(context, Err(&error), out);
                        return None;
                    }
                },
            }
        };
        self.reply_after(&mut part, (last, now), [reply], out);
        None
    }

    /// The type of an object that is to be created, if it may be.
    fn creatable(
        &self,
        object: ObjectId,
        part: &PartitionState,
        (context, request): (&RequestContext, &OpenRequest),
    ) -> Result<&'static TypeInfo> {
        let run = context.session.run;
        if !request.persistent && !self.sessions.has_owner(run) {
            // The object would go with the run, which has ended here.
            return Err(Error::Lost {
                object: format!("the application run {run}"),
            });
        }
        let Some(info) = self.types.find(request.base_name()) else {
            return Err(Error::UnknownType {
                type_name: request.base_name().to_owned(),
            });
        };
        if request.type_name.len() > TYPE_NAME_BYTES_MAX {
            return Err(Error::LimitExceeded {
                limit: "TYPE_NAME_BYTES_MAX".to_owned(),
                max: TYPE_NAME_BYTES_MAX as u64,
                detail: format!(
                    "the name of the type {} with the kinds of its parameters: leave them out",
                    info.name
                ),
            });
        }
        if request.replicas > REPLICAS_MAX {
            return Err(Error::LimitExceeded {
                limit: "REPLICAS_MAX".to_owned(),
                max: REPLICAS_MAX.into(),
                detail: format!("an object of {} replicas", request.replicas),
            });
        }
        // The entry of the object that is to be created is in the table already.
        if self.objects.len() > self.limits.objects_max {
            return Err(Error::LimitExceeded {
                limit: "objects_max".to_owned(),
                max: self.limits.objects_max as u64,
                detail: "delete some, or start the server with a larger limit".to_owned(),
            });
        }
        // Uploaded types come to all servers.
        if info.module.is_none()
            && part.partition.has_followers()
            && let Some(holders) = part.partition.holders(object, replicas_of(request))
            && let Some(address) = self.peers.find_without(&holders, info.name)
        {
            return Err(Error::Refused {
                reason: format!(
                    "the server at {address}, which is to hold a replica, has no type {}: start all servers from one program, or upload the type to servers without it (`crucial push MODULE.wasm`)",
                    info.name
                ),
            });
        }
        Ok(info)
    }

    /// A new replica of a cell, as its request wants it.
    pub(crate) fn new_replica(
        &self,
        cell: Cell,
        context: &RequestContext,
        request: &OpenRequest,
    ) -> Replica {
        let session = &context.session;
        let home = match request.persistent {
            true => Home::Namespace(session.namespace.clone()),
            false => Home::Run(session.run),
        };
        let origin = self.homes.intern(Origin {
            home,
            type_name: request.type_name.clone(),
        });
        let replicas = replicas_of(request);
        Replica::new(cell, replicas, context.call(), (origin, &request.key))
    }
}

/// On how many servers an object is to be.
fn replicas_of(request: &OpenRequest) -> u8 {
    match (request.replicas, request.persistent) {
        (0, true) => REPLICAS_OF_PERSISTENT,
        (0, false) => REPLICAS_OF_RUN,
        (replicas, _) => replicas,
    }
}

/// Whether an object that was made by one name of its type is one of the other, too. A kind of parameter that is `_`, or that is
/// not named, is any.
fn agree(made: &str, asked: &str) -> bool {
    if made == asked {
        return true;
    }
    let (Some(made), Some(asked)) = (kinds(made), kinds(asked)) else {
        return true;
    };
    let are_same = |(made, asked)| made == asked || made == ANY || asked == ANY;
    made.len() == asked.len() && made.into_iter().zip(asked).all(are_same)
}

/// Any kind of parameter.
const ANY: &str = "_";

/// The kinds of the parameters in the name of a type, if it has some.
fn kinds(type_name: &str) -> Option<Vec<&str>> {
    let (_, kinds) = type_name.strip_suffix('>')?.split_once('<')?;
    let mut depth = 0i64;
    let between = kinds.split(|sign| {
        match sign {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            _ => {}
        }
        sign == ',' && depth == 0
    });
    Some(between.map(str::trim).collect())
}

fn other_parameters(made: &str, request: &OpenRequest) -> Error {
    Error::Refused {
        reason: format!(
            "{:?} is a {made} and cannot be used as a {}: name the same types wherever it is opened, or delete it first",
            request.key, request.type_name
        ),
    }
}

/// The object that a name has already.
enum Existing<'a> {
    Nothing,
    Whole(&'a Origin),
    /// The object was lost. This request had made it.
    Lost(CallId),
}

fn existing(state: &ObjectState) -> Existing<'_> {
    match state {
        None => Existing::Nothing,
        Some(replica) => match replica.body {
            Body::Full(_) => Existing::Whole(&replica.origin),
            Body::Stub | Body::Lost => Existing::Lost(replica.creator),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_as_far_as_they_say_something() {
        let map = "Map<(f64, _), Vec<Option<u8>>>";
        assert_eq!(kinds(map), Some(vec!["(f64, _)", "Vec<Option<u8>>"]));
        for same in [
            map,
            "Map",
            "Map<_, _>",
            "Map<_, Vec<Option<u8>>>",
            "Map<(f64, _), _>",
        ] {
            assert!(agree(map, same) && agree(same, map), "{same}");
        }
        for other in [
            "Map<_, Vec<Option<i8>>>",
            "Map<f64, _>",
            "Map<_>",
            "Map<_, _, _>",
            "Map<>",
        ] {
            assert!(!agree(map, other) && !agree(other, map), "{other}");
        }
    }
}
