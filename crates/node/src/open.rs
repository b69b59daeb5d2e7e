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
                (Existing::Whole, OpenMode::Find | OpenMode::FindOrCreate) => {
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
        let Some(info) = self.types.find(&request.type_name) else {
            return Err(Error::UnknownType {
                type_name: request.type_name.clone(),
            });
        };
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

/// The object that a name has already.
enum Existing {
    Nothing,
    Whole,
    /// The object was lost. This request had made it.
    Lost(CallId),
}

fn existing(state: &ObjectState) -> Existing {
    match state {
        None => Existing::Nothing,
        Some(replica) => match replica.body {
            Body::Full(_) => Existing::Whole,
            Body::Stub | Body::Lost => Existing::Lost(replica.creator),
        },
    }
}
