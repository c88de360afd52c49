package com.aimatrix.engine.spring;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * What an application says of its engine in `application.yaml`.
 *
 * @param enabled Whether there is an AmxEngine at all.
 * @param autoStart Whether it connects when the application starts, or when somebody calls its start().
 * @param address Where the engine is: host:port or unix:path. Else AMX_ADDRESS, localhost:9090.
 * @param token Who this application is, to the engine. Else AMX_TOKEN.
 * @param tls How the link is encrypted.
 * @param concurrency How many messages are handled at a time. 0: the SDK's default, 1024.
 * @param patience How long an engine that cannot be reached is tried again when the application starts.
 * @param shutdownTimeout How long handlers may take to finish when the application stops.
 * @param keepAlive Whether the agents keep the process alive when nothing else does.
 * @param config Sections that handlers find in the config of their context.
 */
@ConfigurationProperties("amx")
public record AmxProperties(
        @DefaultValue("true") boolean enabled,
        @DefaultValue("true") boolean autoStart,
        @DefaultValue("") String address,
        @DefaultValue("") String token,
        @DefaultValue Tls tls,
        @DefaultValue("0") int concurrency,
        @DefaultValue("10s") Duration patience,
        @DefaultValue("30s") Duration shutdownTimeout,
        @DefaultValue("true") boolean keepAlive,
        @DefaultValue Map<String, Object> config) {

    /**
     * How the link is encrypted. A path is enough to switch it on.
     *
     * @param enabled Whether it is.
     * @param ca PEM file of who vouches for the engine. Else the system's authorities.
     * @param certificate PEM file of this application's certificate. Else it shows none.
     * @param privateKey PEM file of its private key.
     * @param serverName Name that the engine's certificate must have. Else its address.
     */
    public record Tls(
            @DefaultValue("false") boolean enabled,
            Path ca,
            Path certificate,
            Path privateKey,
            @DefaultValue("") String serverName) {
        boolean wanted() {
            return enabled || ca != null || certificate != null;
        }
    }
}
