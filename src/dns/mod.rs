//! Names to answers: a blocking stub resolver that tells every kind of failure apart.
