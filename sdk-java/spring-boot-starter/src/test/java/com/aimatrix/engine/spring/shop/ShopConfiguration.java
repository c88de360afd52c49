package com.aimatrix.engine.spring.shop;

import com.aimatrix.engine.spring.shop.Shop.Order;
import com.aimatrix.engine.spring.shop.Shop.Product;
import com.aimatrix.engine.spring.shop.Shop.User;
import com.aimatrix.engine.spring.shop.Shop.UserInteractionEvent;
import com.aimatrix.engine.spring.shop.Shop.UserProfile;
import java.time.Duration;
import java.time.Instant;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.cache.CacheManager;
import org.springframework.cache.annotation.EnableCaching;
import org.springframework.cache.concurrent.ConcurrentMapCacheManager;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.transaction.TransactionDefinition;
import org.springframework.transaction.annotation.EnableTransactionManagement;
import org.springframework.transaction.support.AbstractPlatformTransactionManager;
import org.springframework.transaction.support.DefaultTransactionStatus;

/** The application around the agent: a catalogue, three customers, a model that ranks by interest. */
@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@EnableCaching
@EnableTransactionManagement
@Import(RecommendationAgent.class)
class ShopConfiguration {
    static final List<Product> PRODUCTS =
            List.of(
                    new Product("tent", "Tent", "outdoor", true, 3, 0, Set.of()),
                    new Product("stove", "Stove", "outdoor", true, 9, 18, Set.of("eu")),
                    new Product("lamp", "Lamp", "home", true, 5, 0, Set.of()),
                    new Product("chair", "Chair", "home", true, 0, 0, Set.of()),
                    new Product("novel", "Novel", "books", true, 7, 0, Set.of()),
                    new Product("atlas", "Atlas", "books", false, 7, 0, Set.of()));
    private static final List<String> CATEGORIES = List.of("outdoor", "home", "books");

    @Bean
    CacheManager cacheManager() {
        return new ConcurrentMapCacheManager("similarProducts", "userPreferences");
    }

    @Bean
    Ledger ledger() {
        return new Ledger();
    }

    /** Transactions and what else is to be counted. */
    static class Ledger extends AbstractPlatformTransactionManager implements Shop.Analytics {
        private static final long serialVersionUID = 1L;
        final AtomicInteger commits = new AtomicInteger();
        final AtomicInteger embeddings = new AtomicInteger();
        final AtomicInteger recommended = new AtomicInteger();

        @Override
        public void recommended(String userId, String context, int count) {
            recommended.addAndGet(count);
        }

        @Override
        protected Object doGetTransaction() {
            return "transaction";
        }

        @Override
        protected void doBegin(Object transaction, TransactionDefinition definition) {}

        @Override
        protected void doCommit(DefaultTransactionStatus status) {
            commits.incrementAndGet();
        }

        @Override
        protected void doRollback(DefaultTransactionStatus status) {}
    }

    @Bean
    Shop.UserService userService() {
        Map<String, User> users =
                Map.of(
                        "ada", new User("ada", 36, "eu"),
                        "kim", new User("kim", 14, "us"),
                        "lee", new User("lee", 30, "us"));
        return new Shop.UserService() {
            @Override
            public User findById(String userId) {
                User user = users.get(userId);
                if (user == null) {
                    throw new IllegalArgumentException("no user " + userId);
                }
                return user;
            }

            @Override
            public List<String> getActiveUserIds(Duration within) {
                return List.of("ada", "kim", "lee");
            }

            @Override
            public List<UserInteractionEvent> getRecentInteractions(String userId, Duration within) {
                return List.of(new UserInteractionEvent(userId, "view", "tent", "outdoor", Instant.EPOCH));
            }

            @Override
            public List<Order> getOrderHistory(String userId, int most) {
                return userId.equals("lee") ? List.of(new Order("tent", Instant.EPOCH)) : List.of();
            }

            @Override
            public List<String> getCurrentCart(String userId) {
                if (userId.equals("broken")) {
                    throw new IllegalStateException("the cart service is away");
                }
                return List.of();
            }
        };
    }

    @Bean
    Shop.ProductService productService() {
        return new Shop.ProductService() {
            @Override
            public Product findById(String productId) {
                return PRODUCTS.stream().filter(one -> one.id().equals(productId)).findAny().orElse(null);
            }

            @Override
            public List<Product> getAllActiveProducts() {
                return PRODUCTS.stream().filter(Product::active).toList();
            }
        };
    }

    @Bean
    Shop.MLModelService mlModelService(Ledger ledger) {
        return new Shop.MLModelService() {
            @Override
            public double[] getProductEmbedding(Product product) {
                ledger.embeddings.incrementAndGet();
                double[] embedding = new double[CATEGORIES.size() + 1];
                embedding[CATEGORIES.indexOf(product.category())] = 1;
                embedding[CATEGORIES.size()] = product.minimumAge() / 100.0;
                return embedding;
            }

            @Override
            public UserProfile buildUserProfile(User user, List<UserInteractionEvent> recent, List<Order> orders) {
                UserProfile profile = UserProfile.defaultProfile(user.id());
                profile.setAge(user.age());
                profile.setRegion(user.region());
                recent.forEach(one -> profile.interested(one.productCategory(), 0.1));
                orders.forEach(one -> profile.getPurchases().add(one.productId()));
                return profile;
            }

            @Override
            public List<Product> generateRecommendations(UserProfile profile, Shop.ContextualData context, int most) {
                Comparator<Product> liked =
                        Comparator.comparingDouble(one -> -profile.getInterests().getOrDefault(one.category(), 0.0));
                return PRODUCTS.stream().sorted(liked).limit(most).toList();
            }
        };
    }
}
