//! Objects that begin and end.

use crucial_cluster::{Body, Home, Origin, Replica};
use crucial_core::frame::{OpenMode, OpenRequest};
use crucial_core::{CallId, Cell, Turn};
use crucial_object::{Error, Result, encode};

use super::act::{drop_object, replica_of};
use super::calls::{Place, done};
use super::share::Reign;
use super::{REPLICAS_MAX, REPLICAS_OF_PERSISTENT, REPLICAS_OF_RUN, Reply};
use crate::service::{Effects, Service, lost};
use crate::slot::{Arrival, Held, Item};

/// What there is under an object's name.
enum There {
    Nothing,
    Whole,
    /// It was lost; this request made it.
    Lost(CallId),
}

fn there(held: &mut Held) -> There {
    match replica_of(held) {
        None => There::Nothing,
        Some(replica) => match replica.body {
            Body::Full(_) => There::Whole,
            Body::Stub | Body::Lost => There::Lost(replica.creator),
        },
    }
}

impl Service {
    pub(super) fn open_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        was_done: Option<Option<bool>>,
        (arrival, request): (&Arrival, OpenRequest),
        effects: &mut Effects<'_>,
    ) {
        let call = arrival.call();
        if let Some(created) = was_done {
            return self.answer_again(place, reign, arrival, created, effects);
        }
        let mode = request.mode;
        match there(held) {
            There::Whole if mode != OpenMode::Recreate => {
                let Some(mut share) = place.share_in(reign, arrival, effects) else {
                    return;
                };
                self.note(&mut share, arrival, Some(false));
                let last = share.partition.last();
                self.answer_after(place, &mut share, last, [did(call, false)], effects);
            }
            There::Lost(creator) if mode != OpenMode::Recreate && creator != call => {
                self.answer_lost(place, reign, arrival, effects);
            }
            There::Nothing if mode == OpenMode::Find => {
                let error = Error::NotFound {
                    type_name: request.type_name,
                    key: request.key,
                };
                self.answer_found(place, reign, arrival, error, effects);
            }
            _ => match self.make(arrival, &request) {
                Ok(replica) => self.put(place, held, reign, replica, arrival, effects),
                Err(error) => effects.answer(arrival, Err(&error)),
            },
        }
    }

    /// An answer that changes nothing, but says what there is.
    fn answer_found(
        &self,
        place: &Place<'_>,
        reign: Reign,
        arrival: &Arrival,
        error: Error,
        effects: &mut Effects<'_>,
    ) {
        let Some(mut share) = place.share_in(reign, arrival, effects) else {
            return;
        };
        let last = share.partition.last();
        let reply = Reply {
            call: arrival.call(),
            result: Err(error),
        };
        self.answer_after(place, &mut share, last, [reply], effects);
    }

    /// Answers a request that was executed before. `None`: its object was gone.
    fn answer_again(
        &self,
        place: &Place<'_>,
        reign: Reign,
        arrival: &Arrival,
        result: Option<bool>,
        effects: &mut Effects<'_>,
    ) {
        let Some(mut share) = place.share_in(reign, arrival, effects) else {
            return;
        };
        let call = arrival.call();
        let reply = match result {
            Some(result) => did(call, result),
            None => Reply {
                call,
                result: Err(lost(place.slot.id)),
            },
        };
        let last = share.partition.last();
        self.answer_after(place, &mut share, last, [reply], effects);
    }

    /// A new object.
    fn make(&self, arrival: &Arrival, request: &OpenRequest) -> Result<Replica> {
        let Some(info) = self.types.find(&request.type_name) else {
            return Err(Error::UnknownType {
                type_name: request.type_name.clone(),
            });
        };
        let replicas = match (request.replicas, request.persistent) {
            (0, true) => REPLICAS_OF_PERSISTENT,
            (0, false) => REPLICAS_OF_RUN,
            (replicas, _) if replicas <= REPLICAS_MAX => replicas,
            (replicas, _) => {
                return Err(Error::LimitExceeded {
                    limit: "REPLICAS_MAX".to_owned(),
                    max: REPLICAS_MAX.into(),
                    detail: format!("an object of {replicas} replicas"),
                });
            }
        };
        self.check_room()?;
        // The user's `Deserialize` may take its time, so no lock is held.
        let cell = Cell::new(info, &request.state)?;
        let session = &arrival.session;
        let origin = Origin {
            home: match request.persistent {
                true => Home::Namespace(session.namespace.clone()),
                false => Home::Run(session.run),
            },
            type_name: request.type_name.clone(),
            key: request.key.clone(),
        };
        Ok(Replica::new(cell, replicas, arrival.call(), origin))
    }

    /// Puts a new object into its place, in which there may be another.
    fn put(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        mut replica: Replica,
        arrival: &Arrival,
        effects: &mut Effects<'_>,
    ) {
        if held.is_some() && !self.remove_shared(place, held, reign, None, effects) {
            return effects.moved(arrival, place.cluster);
        }
        let Some(mut share) = place.share_in(reign, arrival, effects) else {
            return;
        };
        let created = done(arrival, Some(true));
        share.partition.create(place.slot.id, &mut replica, created);
        share.partition.purge(&|call| self.sessions.needs(call));
        self.sessions
            .note_object(&replica.origin.home, place.slot, self.now_ms());
        *held = Some(Item::Shared(Box::new(replica)));
        let last = share.partition.last();
        self.answer_after(
            place,
            &mut share,
            last,
            [did(arrival.call(), true)],
            effects,
        );
    }

    pub(super) fn delete_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        was_done: Option<Option<bool>>,
        arrival: &Arrival,
        effects: &mut Effects<'_>,
    ) {
        if let Some(deleted) = was_done {
            return self.answer_again(place, reign, arrival, deleted, effects);
        }
        if held.is_none() {
            let Some(mut share) = place.share_in(reign, arrival, effects) else {
                return;
            };
            self.note(&mut share, arrival, Some(false));
            let last = share.partition.last();
            let reply = did(arrival.call(), false);
            return self.answer_after(place, &mut share, last, [reply], effects);
        }
        if !self.remove_shared(place, held, reign, Some(arrival), effects) {
            effects.moved(arrival, place.cluster);
        }
    }

    /// Removes an object, by a request or without one; false if the reign has ended.
    pub(super) fn remove_shared(
        &self,
        place: &Place<'_>,
        held: &mut Held,
        reign: Reign,
        arrival: Option<&Arrival>,
        effects: &mut Effects<'_>,
    ) -> bool {
        let needed = |call: CallId| self.sessions.needs(call);
        let Some(replica) = replica_of(held) else {
            return true;
        };
        let object = place.slot.id;
        let mut share = place.share();
        if !share.reigns(reign) {
            return false;
        }
        let buried = replica.cell().map(|cell| cell.repeatable(&needed));
        let request = arrival.map(|arrival| done(arrival, Some(true)));
        let after = share
            .partition
            .delete(object, request, buried.unwrap_or_default());
        share.partition.purge(&needed);
        let mut replies: Vec<(CallId, Result<Vec<u8>>)> = Vec::new();
        let mut out = Vec::new();
        if let Some(cell) = replica.cell() {
            cell.end_parked(&lost(object), &mut Turn::new(&mut replies, &mut out));
        }
        let replies = replies.into_iter();
        let replies = replies.map(|(call, result)| Reply { call, result });
        let answer = arrival.map(|arrival| did(arrival.call(), true));
        self.answer_after(place, &mut share, after, replies.chain(answer), effects);
        drop(share);
        drop_object(self, place.slot, held, effects);
        true
    }
}

/// Whether something was created, or removed.
fn did(call: CallId, did: bool) -> Reply {
    Reply {
        call,
        result: encode(&did),
    }
}
