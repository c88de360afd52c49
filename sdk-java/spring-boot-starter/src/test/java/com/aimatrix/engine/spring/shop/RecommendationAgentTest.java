package com.aimatrix.engine.spring.shop;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.aimatrix.engine.AmxEngine;
import com.aimatrix.engine.MessageOptions;
import com.aimatrix.engine.ProcessingResult;
import com.aimatrix.engine.errors.AmxException;
import com.aimatrix.engine.spring.shop.Shop.RecommendationRequest;
import com.aimatrix.engine.spring.shop.Shop.UserInteractionEvent;
import com.aimatrix.engine.testing.EmbeddedEngine;
import com.aimatrix.engine.testing.WithEmbeddedEngine;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;

/** The specification's agent, in a real application context, behind a real engine. */
@WithEmbeddedEngine
@EnabledIf(value = "com.aimatrix.engine.testing.EmbeddedEngine#available", disabledReason = "no engine: AMX_COMMAND")
class RecommendationAgentTest {
    private static int runs;

    private final String key = "run-" + runs++; // of an instance that no other test has spoken to
    private ConfigurableApplicationContext context;
    private AmxEngine engine;
    private ShopConfiguration.Ledger ledger;

    @BeforeEach
    void start(EmbeddedEngine process) {
        context =
                new SpringApplicationBuilder(ShopConfiguration.class)
                        .web(WebApplicationType.NONE)
                        .properties("amx.address=" + process.address(), "spring.main.banner-mode=off")
                        .run();
        engine = context.getBean(AmxEngine.class);
        ledger = context.getBean(ShopConfiguration.Ledger.class);
    }

    @AfterEach
    void stop() {
        context.close();
    }

    private ProcessingResult ask(String handler, Object content) {
        MessageOptions options = new MessageOptions().key(key).handler(handler);
        return engine.request("RecommendationAgent", content, ProcessingResult.class, options);
    }

    private List<Object> recommended(String userId, Map<String, Object> filters) {
        ProcessingResult result =
                ask("generateRecommendations", new RecommendationRequest(userId, "homepage", filters));
        assertThat(result.isSuccess()).as(result.message()).isTrue();
        Map<?, ?> data = (Map<?, ?>) result.data();
        List<Object> ids = new ArrayList<>();
        ((List<?>) data.get("recommendations")).forEach(one -> ids.add(((Map<?, ?>) one).get("id")));
        assertThat(data.get("totalCount")).isEqualTo(ids.size());
        assertThat(data.get("userId")).isEqualTo(userId);
        assertThat(data.get("context")).isEqualTo("homepage");
        assertThat(data.containsKey("generatedAt")).isTrue();
        return ids;
    }

    private void interact(String userId, String type, String product, String category) {
        ProcessingResult result =
                ask("recordUserInteraction", new UserInteractionEvent(userId, type, product, category, Instant.now()));
        assertThat(result.data()).isEqualTo("Interaction recorded successfully");
    }

    @Test
    void recommendations_follow_interests_age_region_stock_and_what_was_bought() {
        assertThat(recommended("ada", Map.of())).containsExactly("tent", "stove", "lamp", "novel");
        assertThat(recommended("kim", Map.of())).containsExactly("tent", "lamp", "novel");
        assertThat(recommended("lee", Map.of("limit", 1))).containsExactly("lamp");
        interact("ada", "purchase", "novel", "books");
        assertThat(recommended("ada", Map.of())).containsExactly("tent", "stove", "lamp");
        interact("ada", "like", "lamp", "home");
        assertThat(recommended("ada", Map.of("limit", 2))).containsExactly("lamp", "tent");
        assertThat(ledger.recommended.get()).isEqualTo(4 + 3 + 1 + 3 + 2);
    }

    @Test
    void what_fails_in_a_service_is_told_and_what_makes_no_sense_is_thrown() {
        ProcessingResult result =
                ask("generateRecommendations", new RecommendationRequest("broken", "cart", Map.of()));
        assertThat(result.isError()).isTrue();
        assertThat(result.message()).isEqualTo("Failed to generate recommendations: the cart service is away");
        assertThatThrownBy(() -> interact("ada", "stare", "lamp", "home"))
                .isInstanceOf(AmxException.class)
                .hasMessageContaining("no such interaction: stare");
    }

    @Test
    void similar_products_are_found_once_and_come_from_the_container_s_cache_until_it_is_cleared() {
        Map<String, Object> question = Map.of("productId", "tent", "limit", 2);
        ProcessingResult first = ask("findSimilarProducts", question);
        Map<?, ?> data = (Map<?, ?>) first.data();
        assertThat(data.get("productId")).isEqualTo("tent");
        assertThat(data.get("count")).isEqualTo(2);
        assertThat(((Map<?, ?>) ((List<?>) data.get("similarProducts")).get(0)).get("id")).isEqualTo("stove");
        int embeddings = ledger.embeddings.get();
        assertThat(ask("findSimilarProducts", question)).isEqualTo(first);
        assertThat(ledger.embeddings.get()).isEqualTo(embeddings);
        engine.request("RecommendationAgent", null, Object.class, new MessageOptions().handler("cleanupExpiredData"));
        assertThat(ask("findSimilarProducts", question)).isEqualTo(first);
        assertThat(ledger.embeddings.get()).isGreaterThan(embeddings);
        ProcessingResult none = ask("findSimilarProducts", Map.of("productId", "boat", "limit", 2));
        assertThat(none.message()).isEqualTo("Product not found: boat");
    }

    @Test
    void profiles_are_rebuilt_in_a_transaction_and_remembered_by_the_engine_that_was_killed(EmbeddedEngine process) {
        MessageOptions rebuild = new MessageOptions().key(key).handler("rebuildUserProfiles");
        engine.request("RecommendationAgent", null, Object.class, rebuild);
        assertThat(ledger.commits.get()).isEqualTo(1);
        interact("lee", "view", "novel", "books");
        process.kill();
        process.restart();
        Map<?, ?> profiles = (Map<?, ?>) engine.memory("RecommendationAgent/" + key).get("userProfiles");
        assertThat(Set.<Object>copyOf(profiles.keySet())).containsExactlyInAnyOrder("ada", "kim", "lee");
        assertThat(((Map<?, ?>) profiles.get("lee")).get("views")).isEqualTo(Map.of("novel", 1));
        interact("lee", "view", "novel", "books");
        profiles = (Map<?, ?>) engine.memory("RecommendationAgent/" + key).get("userProfiles");
        assertThat(((Map<?, ?>) profiles.get("lee")).get("views")).isEqualTo(Map.of("novel", 2));
    }
}
