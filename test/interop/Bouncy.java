/* BouncyCastle as a party: reads one job a line from stdin (words parted by tabs), answers "ok" or "fail<TAB>reason"; files carry the octets. */
import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.X509Certificate;
import java.security.spec.*;
import java.util.*;
import javax.crypto.Cipher;
import javax.crypto.spec.SecretKeySpec;
import javax.mail.internet.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.cms.*;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.*;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.mail.smime.SMIMESigned;
import org.bouncycastle.jcajce.io.CipherInputStream;
import org.bouncycastle.operator.InputAEADDecryptor;
import org.bouncycastle.operator.jcajce.*;

public class Bouncy {
  static final String BC = "BC";

  public static void main(String[] args) throws Exception {
    Security.addProvider(new BouncyCastleProvider());
    BufferedReader jobs = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = jobs.readLine()) != null; ) {
      String answer;
      try {
        answer = "ok\t" + run(line.split("\t"));
      } catch (Throwable thrown) {
        answer = "fail\t" + reasonOf(thrown);
      }
      System.out.println(answer.replaceAll("[\\r\\n]+", " "));
    }
  }

  static String reasonOf(Throwable thrown) {
    Throwable cause = thrown;
    while (cause.getCause() != null) cause = cause.getCause();
    return cause.getClass().getSimpleName() + (cause.getMessage() == null ? "" : ": " + cause.getMessage());
  }

  static String run(String[] job) throws Exception {
    switch (job[0]) {
      case "version": return new BouncyCastleProvider().getVersionStr();
      case "kek": write(job[3], openKek(HexFormat.of().parseHex(job[1]), read(job[2]))); return "";
      case "open": write(job[3], open(key(job[1]), read(job[2]))); return "";
      case "verify": write(job[4], verify(read(job[1]), job[2].equals("-") ? null : read(job[2]), certificate(job[3]))); return "";
      case "mail": write(job[3], verifyMail(read(job[1]), certificate(job[2]))); return "";
      case "receipt": checkReceipt(read(job[1]), read(job[2]), certificate(job[3])); return "";
      case "seal": write(job[5], seal(job[1], job[2], certificate(job[3]), read(job[4]))); return "";
      case "sign": write(job[6], sign(key(job[2]), certificate(job[3]), job[1], job[4].equals("opaque"), read(job[5]))); return "";
      default: throw new IllegalArgumentException("unknown job " + job[0]);
    }
  }

  static byte[] read(String file) throws IOException { return Files.readAllBytes(Path.of(file)); }

  static void write(String file, byte[] octets) throws IOException { Files.write(Path.of(file), octets); }

  static PrivateKey key(String file) throws Exception {
    byte[] der = read(file);
    String kind = PrivateKeyInfo.getInstance(der).getPrivateKeyAlgorithm().getAlgorithm().equals(PKCSObjectIdentifiers.rsaEncryption) ? "RSA" : "EC";
    return KeyFactory.getInstance(kind, BC).generatePrivate(new PKCS8EncodedKeySpec(der));
  }

  static X509CertificateHolder certificate(String file) throws IOException { return new X509CertificateHolder(read(file)); }

  static boolean authenticated(byte[] der) {
    return org.bouncycastle.asn1.cms.ContentInfo.getInstance(der).getContentType().equals(CMSObjectIdentifiers.authEnvelopedData);
  }

  static RecipientInformation only(RecipientInformationStore infos) { return infos.getRecipients().iterator().next(); }

  static byte[] openKek(byte[] kek, byte[] der) throws Exception {
    SecretKeySpec secret = new SecretKeySpec(kek, "AES");
    if (authenticated(der))
      return only(new CMSAuthEnvelopedData(der).getRecipientInfos()).getContent(new KekAuth(secret).setProvider(BC));
    return only(new CMSEnvelopedData(der).getRecipientInfos()).getContent(new JceKEKEnvelopedRecipient(secret).setProvider(BC));
  }

  static byte[] open(PrivateKey key, byte[] der) throws Exception {
    boolean rsa = key.getAlgorithm().equals("RSA");
    if (authenticated(der))
      return only(new CMSAuthEnvelopedData(der).getRecipientInfos()).getContent(rsa
          ? new JceKeyTransAuthEnvelopedRecipient(key).setProvider(BC)
          : new AgreeAuth(key).setProvider(BC));
    return only(new CMSEnvelopedData(der).getRecipientInfos()).getContent(rsa
        ? new JceKeyTransEnvelopedRecipient(key).setProvider(BC)
        : new JceKeyAgreeEnvelopedRecipient(key).setProvider(BC));
  }

  /** BouncyCastle 1.72 opens AuthEnvelopedData with JceKeyTransAuthEnvelopedRecipient only; these two do the same over its other recipients. */
  static class KekAuth extends JceKEKRecipient {
    KekAuth(SecretKeySpec secret) { super(secret); }

    public RecipientOperator getRecipientOperator(AlgorithmIdentifier wrap, AlgorithmIdentifier cipher, byte[] wrapped) throws CMSException {
      return authenticatedBy(extractSecretKey(wrap, cipher, wrapped), cipher);
    }
  }

  static class AgreeAuth extends JceKeyAgreeRecipient {
    AgreeAuth(PrivateKey key) { super(key); }

    public RecipientOperator getRecipientOperator(AlgorithmIdentifier scheme, AlgorithmIdentifier cipher, SubjectPublicKeyInfo sender,
        ASN1OctetString material, byte[] wrapped) throws CMSException {
      return authenticatedBy(extractSecretKey(scheme, cipher, sender, material, wrapped), cipher);
    }
  }

  static RecipientOperator authenticatedBy(Key contentKey, AlgorithmIdentifier algorithm) throws CMSException {
    try {
      AlgorithmParameters parameters = AlgorithmParameters.getInstance("GCM", BC);
      parameters.init(algorithm.getParameters().toASN1Primitive().getEncoded());
      Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding", BC);
      cipher.init(Cipher.DECRYPT_MODE, contentKey, parameters);
      return new RecipientOperator(new InputAEADDecryptor() {
        public AlgorithmIdentifier getAlgorithmIdentifier() { return algorithm; }
        public InputStream getInputStream(InputStream ciphertextAndTag) { return new CipherInputStream(ciphertextAndTag, cipher); }
        public OutputStream getAADStream() { return OutputStream.nullOutputStream(); } // no authenticated attributes in our envelopes
        public byte[] getMAC() { return null; }
      });
    } catch (GeneralSecurityException | IOException cause) {
      throw new CMSException("cannot decrypt", cause);
    }
  }

  /** Every signer, and its certificate's signature by the root. */
  static void verifySigners(CMSSignedData data, X509CertificateHolder root) throws Exception {
    if (data.getSignerInfos().size() == 0) throw new CMSException("no signer");
    for (SignerInformation info : data.getSignerInfos()) {
      @SuppressWarnings("unchecked")
      Collection<X509CertificateHolder> found = data.getCertificates().getMatches(info.getSID());
      X509CertificateHolder signer = found.iterator().next();
      if (!signer.isSignatureValid(new JcaContentVerifierProviderBuilder().setProvider(BC).build(root)))
        throw new CMSException("the signer's certificate is not by the root");
      if (!info.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider(BC).build(signer)))
        throw new CMSException("the signature does not verify");
    }
  }

  static byte[] verify(byte[] der, byte[] detached, X509CertificateHolder root) throws Exception {
    CMSSignedData data = detached == null ? new CMSSignedData(der) : new CMSSignedData(new CMSProcessableByteArray(detached), der);
    verifySigners(data, root);
    return detached == null ? (byte[]) data.getSignedContent().getContent() : detached;
  }

  /** multipart/signed as JavaMail and BouncyCastle's own S/MIME reader take it apart. */
  static byte[] verifyMail(byte[] mail, X509CertificateHolder root) throws Exception {
    MimeMessage message = new MimeMessage(null, new ByteArrayInputStream(mail));
    SMIMESigned signed = new SMIMESigned((MimeMultipart) message.getContent());
    verifySigners(signed, root);
    ByteArrayOutputStream content = new ByteArrayOutputStream();
    signed.getContent().writeTo(content);
    return content.toByteArray();
  }

  /** BouncyCastle has no receipt of RFC 2634: its signature is verified, the rest compared here (RFC 2634 section 2.6). */
  static void checkReceipt(byte[] receipt, byte[] original, X509CertificateHolder root) throws Exception {
    CMSSignedData signed = new CMSSignedData(receipt);
    verifySigners(signed, root);
    SignerInformation asked = new CMSSignedData(original).getSignerInfos().iterator().next();
    ASN1Sequence parts = ASN1Sequence.getInstance(signed.getSignedContent().getContent());
    org.bouncycastle.asn1.cms.Attribute said = signed.getSignerInfos().iterator().next().getSignedAttributes().get(PKCSObjectIdentifiers.id_aa_msgSigDigest);
    byte[] digest = MessageDigest.getInstance("SHA-256").digest(asked.getEncodedSignedAttributes());
    if (!Arrays.equals(ASN1OctetString.getInstance(parts.getObjectAt(3)).getOctets(), asked.getSignature()))
      throw new CMSException("another signature value");
    if (!Arrays.equals(ASN1OctetString.getInstance(said.getAttrValues().getObjectAt(0)).getOctets(), digest))
      throw new CMSException("another msgSigDigest");
  }

  static byte[] seal(String form, String keys, X509CertificateHolder to, byte[] content) throws Exception {
    RecipientInfoGenerator recipient = recipient(keys, new JcaX509CertificateConverter().setProvider(BC).getCertificate(to));
    CMSTypedData data = new CMSProcessableByteArray(content);
    if (form.equals("auth")) {
      CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
      generator.addRecipientInfoGenerator(recipient);
      JceCMSContentEncryptorBuilder cipher = new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES256_GCM).setProvider(BC);
      return generator.generate(data, (org.bouncycastle.operator.OutputAEADEncryptor) cipher.build()).getEncoded();
    }
    CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
    generator.addRecipientInfoGenerator(recipient);
    return generator.generate(data, new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES256_CBC).setProvider(BC).build()).getEncoded();
  }

  static RecipientInfoGenerator recipient(String keys, X509Certificate to) throws Exception {
    if (keys.equals("ec")) {
      KeyPairGenerator ephemeral = KeyPairGenerator.getInstance("EC", BC);
      ephemeral.initialize(new ECGenParameterSpec("P-256"));
      KeyPair pair = ephemeral.generateKeyPair();
      return new JceKeyAgreeRecipientInfoGenerator(CMSAlgorithm.ECDH_SHA256KDF, pair.getPrivate(), pair.getPublic(), CMSAlgorithm.AES256_WRAP)
          .addRecipient(to).setProvider(BC);
    }
    if (keys.equals("pkcs1")) return new JceKeyTransRecipientInfoGenerator(to).setProvider(BC);
    AlgorithmIdentifier sha256 = new AlgorithmIdentifier(NISTObjectIdentifiers.id_sha256, DERNull.INSTANCE);
    RSAESOAEPparams parameters = new RSAESOAEPparams(
        sha256, new AlgorithmIdentifier(PKCSObjectIdentifiers.id_mgf1, sha256), RSAESOAEPparams.DEFAULT_P_SOURCE_ALGORITHM);
    return new JceKeyTransRecipientInfoGenerator(to, new AlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, parameters)).setProvider(BC);
  }

  static byte[] sign(PrivateKey key, X509CertificateHolder certificate, String algorithm, boolean opaque, byte[] content) throws Exception {
    CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
    generator.addSignerInfoGenerator(new JcaSimpleSignerInfoGeneratorBuilder().setProvider(BC).build(algorithm, key, new JcaX509CertificateConverter().getCertificate(certificate)));
    generator.addCertificate(certificate);
    return generator.generate(new CMSProcessableByteArray(content), opaque).getEncoded();
  }
}
