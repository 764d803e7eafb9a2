//! What is wrong with a transaction by itself.

use bytes::Bytes;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

use super::in_range;

/// Checks the operations' number and form, then whether a key is written twice.
pub(crate) fn check_txn(request: &TxnRequest, most: usize) -> Result<(), EtcdError> {
    form(request, most)?;
    writes(&request.success)?;
    writes(&request.failure).map(drop)
}

pub(crate) fn check_put(put: &PutRequest) -> Result<(), EtcdError> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        Err(EtcdError::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(EtcdError::LeaseProvided)
    } else {
        Ok(())
    }
}

pub(crate) fn check_key(key: &Bytes) -> Result<(), EtcdError> {
    if key.is_empty() { Err(EtcdError::EmptyKey) } else { Ok(()) }
}

fn form(request: &TxnRequest, most: usize) -> Result<(), EtcdError> {
    let longest = [request.compare.len(), request.success.len(), request.failure.len()].into_iter().max().unwrap_or(0);
    if longest > most {
        return Err(EtcdError::TooManyOps);
    }
    if request.compare.iter().any(|c| c.key.is_empty()) {
        return Err(EtcdError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match op.request.as_ref().ok_or(EtcdError::KeyNotFound)? {
            Request::RequestRange(r) if r.key.is_empty() => return Err(EtcdError::EmptyKey),
            Request::RequestRange(r) if !(0..=2).contains(&r.sort_order) || !(0..=4).contains(&r.sort_target) => {
                return Err(EtcdError::InvalidSortOption);
            }
            Request::RequestPut(r) => check_put(r)?,
            Request::RequestDeleteRange(r) => check_key(&r.key)?,
            Request::RequestTxn(r) => form(r, most - longest)?,
            _ => {}
        }
    }
    Ok(())
}

/// The puts and deletes of one branch.
type Writes<'a> = (Vec<&'a Bytes>, Vec<&'a DeleteRangeRequest>);

fn writes(branch: &[RequestOp]) -> Result<Writes<'_>, EtcdError> {
    let ops = || branch.iter().filter_map(|op| op.request.as_ref());
    let (mut puts, mut deletes): Writes<'_> = Default::default();
    // etcd overlooks deletes from a key onwards.
    deletes.extend(ops().filter_map(|op| match op {
        Request::RequestDeleteRange(r) if r.range_end[..] != [0] => Some(r),
        _ => None,
    }));
    for op in ops() {
        let Request::RequestTxn(nested) = op else { continue };
        let (then_puts, then_deletes) = writes(&nested.success)?;
        let (else_puts, else_deletes) = writes(&nested.failure)?;
        let either = else_puts.iter().filter(|key| !then_puts.contains(key));
        for key in then_puts.iter().chain(either) {
            add(&mut puts, &deletes, key)?;
        }
        // Only now: so etcd overlooks a nested put before a delete in a later nested transaction.
        deletes.extend(then_deletes.into_iter().chain(else_deletes));
    }
    for op in ops() {
        if let Request::RequestPut(put) = op {
            add(&mut puts, &deletes, &put.key)?;
        }
    }
    Ok((puts, deletes))
}

fn add<'a>(puts: &mut Vec<&'a Bytes>, deletes: &[&DeleteRangeRequest], key: &'a Bytes) -> Result<(), EtcdError> {
    if puts.contains(&key) || deletes.iter().any(|d| in_range(key, &d.key, &d.range_end)) {
        return Err(EtcdError::DuplicateKey);
    }
    puts.push(key);
    Ok(())
}
