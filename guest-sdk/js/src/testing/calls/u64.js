export const u64 = (number) => number;
