// Starts Swagger UI on the API's own description.
const place = document.getElementById("api");
window.SwaggerUIBundle({ url: place.dataset.openapi, domNode: place, deepLinking: true, docExpansion: "list", validatorUrl: null });
