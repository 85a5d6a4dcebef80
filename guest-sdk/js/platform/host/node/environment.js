export const environment = () => Object.entries(process.env);
