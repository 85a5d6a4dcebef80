/** A whole number as the engine takes a `u64` of the contract: the wrong kind would end the instance. */
export const u64 = (number) => (LOCKGATE_BIGINT ? BigInt(number) : number);
