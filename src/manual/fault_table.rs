//! What the staple keeper does when a responder misbehaves, cell by cell.
//!
//! `tests/keeper_faults.rs` plays each cell: a question over a real connection to a responder that has the fault, the clock
//! an argument, chance at its least and at its greatest. It writes down what it saw, and that has to be the row that
//! stands here. How the times come about is [`crate::ocsp::schedule`]'s page.
//!
//! In all cells: one connection for each question and none besides; what fails changes nothing in the store; a proof in
//! hand is stapled to its end, is asked for before that however often asking failed, and is not stapled a second longer.
//! A revocation takes the place of the proof, in the store too. A certificate that has ended is not asked about. One
//! that names no responder is not either, and nothing is said of it.
//!
//! # The faults, and the reasons that are shown
//!
//! The reason stands in the log line where there is one, and in the administrator's table; `*` is what differs.
//!
//! | fault | the responder | reason |
//! |---|---|---|
//! | down | nobody listens at its port | `cannot connect to *: Connection refused` |
//! | slow | takes the question and says nothing | `no answer within * s` |
//! | dripping | sends a byte now and then, for ever | `no answer within * s` |
//! | huge | sends a body without end | `the answer is longer than 1048576 bytes` |
//! | garbage | sends what is no response | `the answer is not used: malformed: *` |
//! | tryLater | says so (unsigned) | `the answer is not used: the responder answered tryLater` |
//! | unauthorized | says so (unsigned) | `the answer is not used: the responder answered unauthorized` |
//! | revoked | says so, well signed | – |
//! | unknown | says so, well signed | `the answer is not used: the responder does not know the certificate (status unknown)` |
//! | wrong certificate | proves another certificate good | `the answer is not used: for another certificate` |
//! | wrong signer | signs as another authority | `the answer is not used: bad signature, or not signed by the issuer or its delegate` |
//! | delegated with EKU | signs as a delegate of the issuer: no fault | – |
//! | delegated without EKU | signs as a certificate of the issuer that may not | `the answer is not used: bad signature, or not signed by the issuer or its delegate` |
//! | expired signer | signs as a delegate whose certificate has ended | `the answer is not used: expired at *` |
//! | future thisUpdate | proves it good from tomorrow on | `the answer is not used: not valid before *` |
//! | no nextUpdate | proves it good without an end | `the answer is not used: no nextUpdate` |
//! | redirecting | sends elsewhere; that is not followed | `the server answered 302 Found` |
//! | resetting | takes the question and resets the connection | `the connection failed: Connection reset by peer` |
//!
//! # The lines of the log
//!
//! One for each change of a certificate's state, none for each attempt.
//!
//! | name | line | when |
//! |---|---|---|
//! | no proof | `OCSP: *: no proof yet (*: *); nothing is stapled` | there never was one, and asking fails |
//! | no new proof | `OCSP: *: no new proof (*: *); the one in hand is stapled until *` | asking fails, the proof in hand goes on |
//! | ran out | `OCSP: *: its proof ran out at * and is not stapled any more (*: *)` | the proof in hand has ended, and there is no other |
//! | a proof | `OCSP: *: a new proof is stapled until *` | after a failure there is one again |
//! | revoked | `OCSP: *: the certificate is revoked (since *); nothing is stapled` | the panic log too |
//!
//! # At the start
//!
//! Nothing in hand: nothing is stored. A proof in hand: one is, past half of its life (before that nobody is asked).
//! "Again" is the time from the failure to the next attempt, between the two ends of chance. "At half life": when half
//! of the life of the proof in hand has passed, or up to a fifth of the wait earlier.
//!
//! | fault | nothing in hand: stapled | logged | again | a proof in hand: stapled | logged | again |
//! |---|---|---|---|---|---|---|
//! | down | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | slow | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | dripping | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | huge | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | garbage | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | tryLater | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | unauthorized | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | revoked | nothing | revoked | 30 to 60 min | nothing | revoked | 30 to 60 min |
//! | unknown | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | wrong certificate | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | wrong signer | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | delegated with EKU | the new proof | – | at half life | the new proof | – | at half life |
//! | delegated without EKU | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | expired signer | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | future thisUpdate | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | no nextUpdate | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | redirecting | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//! | resetting | nothing | no proof | 30 to 60 s | the proof in hand | no new proof | 30 to 60 s |
//!
//! # In steady state
//!
//! Nothing in hand: three attempts have failed before, and the log knows. A proof in hand: it was fetched half a day
//! ago, and nobody is asked before it is due, so that a fault is not even noticed.
//!
//! | fault | nothing in hand: stapled | logged | again | a proof in hand: stapled | logged | again |
//! |---|---|---|---|---|---|---|
//! | down | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | slow | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | dripping | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | huge | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | garbage | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | tryLater | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | unauthorized | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | revoked | nothing | revoked | 30 to 60 min | the proof in hand | – | at half life |
//! | unknown | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | wrong certificate | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | wrong signer | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | delegated with EKU | the new proof | a proof | at half life | the proof in hand | – | at half life |
//! | delegated without EKU | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | expired signer | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | future thisUpdate | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | no nextUpdate | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | redirecting | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//! | resetting | nothing | – | 4 to 8 min | the proof in hand | – | at half life |
//!
//! # At renewal
//!
//! Nothing in hand: the responder was down from half of the proof's life to its end, and beyond; the first line is of that
//! end. A proof in hand: half of its life has passed.
//!
//! | fault | nothing in hand: stapled | logged | again | a proof in hand: stapled | logged | again |
//! |---|---|---|---|---|---|---|
//! | down | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | slow | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | dripping | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | huge | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | garbage | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | tryLater | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | unauthorized | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | revoked | nothing | ran out, then revoked | 30 to 60 min | nothing | revoked | 30 to 60 min |
//! | unknown | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | wrong certificate | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | wrong signer | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | delegated with EKU | the new proof | ran out, then a proof | at half life | the new proof | – | at half life |
//! | delegated without EKU | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | expired signer | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | future thisUpdate | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | no nextUpdate | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | redirecting | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
//! | resetting | nothing | ran out | 30 to 60 min | the proof in hand | no new proof | 30 to 60 s |
