//! The faults that a broken world has.

/// One rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The 202 is sent although the queue has not stored the event.
    AcceptedUnstored,
    /// An attempt that failed is not counted.
    FailuresForgotten,
    /// A retry comes at once.
    NoPause,
    /// An event is tried although it is too old.
    AgeIgnored,
    /// The end of an event is not stored before its record is sent.
    EndNotStored,
    /// An event is gone as soon as its record is sent, whether it arrives or not.
    GoneBeforeDelivery,
    /// A failed event without a destination is gone.
    NoDeadLetter,
    /// A record that is not taken is given up at once.
    DeliveryNotRepeated,
    /// Any gateway takes the events of a function, not only its owner.
    OwnerIgnored,
    /// An event that was taken by a gateway that ended is given to nobody else.
    NotRedelivered,
    /// What waits is learned from rings alone, which can be missed.
    NeverLooks,
}

impl Fault {
    pub(crate) const ALL: [Fault; 11] = [
        Fault::AcceptedUnstored,
        Fault::FailuresForgotten,
        Fault::NoPause,
        Fault::AgeIgnored,
        Fault::EndNotStored,
        Fault::GoneBeforeDelivery,
        Fault::NoDeadLetter,
        Fault::DeliveryNotRepeated,
        Fault::OwnerIgnored,
        Fault::NotRedelivered,
        Fault::NeverLooks,
    ];
}
