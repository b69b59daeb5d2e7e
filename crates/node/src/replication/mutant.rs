//! Planted bugs for the simulation of replication.

use crate::mutant::mutants;

mutants! {
    /// A way to break the protocol.
    pub enum Mutant {
        /// The control group expires a node at once, and does not wait for the end of its lease.
        NoLeaseWait,
        /// A node serves whatever became of its lease.
        NoLeaseCheck,
        /// Results go out before the backups have acknowledged.
        AnswerBeforeBackup,
        /// Reads go out whatever the object's last change waits for.
        ReadUnacknowledged,
        /// Creations and deletions are not part of what a new assignment gets.
        NoRequestsInJoin,
        /// A new primary serves without a look at what the other assignments hold.
        NoReconciliation,
        /// A backup takes entries of an older epoch, too.
        NoSeal,
        /// A joining node gets an assignment when it was sent everything, acknowledged or not.
        AssignBeforeAcknowledgement,
        /// A primary goes on serving while it hands over.
        ServeInHandOver,
        /// Stubs at a new primary stay stubs, so that what was lost can be made anew.
        LostComesBack,
        /// Changes of objects that a joining node was sent do not follow them there.
        NoChangesWhileCopying,
        /// A change is done as often as it comes, in whatever version the object is.
        NoVersionCheck,
        /// Records are dropped while they are needed.
        ForgetTooEarly,
        /// Unacknowledged entries are not sent again in a new epoch.
        NoRepetitionInNewEpoch,
        /// A change waits for the acknowledgement of a stream that has ended, by its number in another one.
        StaleNeeds,
        /// Answers that waited for a joining node are not released when the join ends.
        NoReleaseAfterJoin,
        /// A node goes on with what it had before the partition began anew.
        KeepsOutdated,
        /// A new primary believes its own idea of its rank.
        BelievesOwnRank,
        /// A change goes out when fewer servers have it than asked for.
        TooFewReplicas,
        /// A server that cannot keep an object does not say so.
        LackingInSilence,
        /// A server becomes the primary that does not have all objects.
        JoinsLacking,
        /// An object that cannot be encoded does not exist for other servers.
        DropsUnencodable,
        /// A node that acknowledged nothing may join again without a pause.
        JoinsAtOnce,
        /// What was sent is sent again without a pause.
        RepeatsAtOnce,
        /// A partition that had too much on its way serves no more.
        NeverResumes,
        /// The results of a silent session go as soon as it was taken for dead.
        RecordsGoEarly,
        /// A server answers pings without a lease.
        PongWithoutLease,
        /// A new primary does not expect the sessions that have results in its objects.
        NobodyExpected,
        /// The hello of a newer attempt does not end the session of the older one.
        HelloKeepsOlder,
        /// An older attempt of a cloud thread may begin again.
        OlderAttemptBegins,
        /// A cancelled thread's session lives on.
        FenceEndsNothing,
        /// A call of a fenced attempt keeps its place at a new primary.
        FencedWaitsOn,
        /// The end of an older attempt of an exactly-once thread ends the session that all attempts share.
        FenceEndsRecords,
        /// A request about modules is done as often as it comes.
        PushesTwice,
        /// A server takes objects whose code it does not have yet.
        TakesUnknownCode,
        /// A new primary leaves its objects with the code that they came with.
        KeepsOldCode,
        /// A new primary serves all objects when some are compared with what the others hold.
        ServesUncompared,
        /// A leader of the control group grants leases though it does not know whether it still leads.
        GrantsUnconfirmed,
        /// A new leader grants leases before all proposals of earlier leaders are decided or lost.
        GrantsBeforeFirstCommit,
        /// A leader grants a lease to a server whose expiry it has proposed.
        GrantsWhileExpiring,
    }
}
